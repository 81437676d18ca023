//! End-to-end tests, one file an area, in one binary.
