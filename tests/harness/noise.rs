//! Text that no compression makes smaller by much.

use std::hash::{BuildHasher, RandomState};

/// 16 KiB of random hexadecimal digits.
pub fn noise() -> String {
    let word = |number: u64| format!("{:016x}", RandomState::new().hash_one(number));
    (0..1024).map(word).collect()
}
