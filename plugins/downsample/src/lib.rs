//! Mean, minimum and maximum per key and window.
