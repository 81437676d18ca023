//! How ids of commands are hashed: they are drawn or computed by nodes, so that their own bytes are random enough.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use devices::command::CommandId;

/// A map by command id.
pub(super) type ById<V> = HashMap<CommandId, V, BuildHasherDefault<IdHasher>>;

/// An odd number whose multiples fill all bits: 2^64 divided by the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Folds an id's bytes, eight at a time.
#[derive(Debug, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.0 = (self.0.rotate_left(29) ^ u64::from_be_bytes(word)).wrapping_mul(SPREAD);
        }
    }

    fn write_usize(&mut self, _length: usize) {
        // All ids have one length.
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    use super::*;

    #[test]
    fn ids_of_a_job_and_of_a_millisecond_spread() {
        let build = BuildHasherDefault::<IdHasher>::default();
        let job = CommandId::v7(1, [7; 10]);
        let of_job: HashSet<u64> = (0..10_000).map(|n| build.hash_one(CommandId::of_job(job, n)) >> 50).collect();
        let low: HashSet<u64> = (0..10_000).map(|n| build.hash_one(CommandId::of_job(job, n)) & 0x3fff).collect();
        assert!(of_job.len() > 6_000 && low.len() > 6_000, "{} {}", of_job.len(), low.len());
    }
}
