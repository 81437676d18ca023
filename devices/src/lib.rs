//! The device side and the words both sides speak.
