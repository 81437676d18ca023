//! The codec against vectors made by hand from the specifications, against itself, and against noise.

mod noise;
mod round_trip;
mod vectors;
