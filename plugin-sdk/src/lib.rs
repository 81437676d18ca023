//! Write Edgeway consumer plugins in Rust.
