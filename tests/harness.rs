//! Real nodes on free ports in their own folders, and what speaks to them.

pub mod api;
pub mod binary;
pub mod cli;
pub mod components;
pub mod device;
pub mod hose;
pub mod http;
pub mod log;
pub mod mqtt;
pub mod node;
pub mod noise;
pub mod site;
pub mod skip;
pub mod wait;

pub use log::Event;
pub use node::Node;
