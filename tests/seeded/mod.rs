//! What all simulations are made of: chance from one seed, runs of many seeds, and disks of which a crash leaves the first part.

pub mod journal;
pub mod promises;
pub mod random;
pub mod seeds;
pub mod stores;
