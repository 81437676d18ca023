//! The store: partitioned, batched, numbered commits over sled.
