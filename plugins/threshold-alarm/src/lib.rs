//! Alarm and command when a reading passes a limit.
