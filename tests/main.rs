//! End-to-end tests, one file an area, in one binary.
//!
//! Each test starts real nodes on free ports in folders of their own (`harness`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod bad_input;
mod chain;
mod cli;
mod commands;
mod commands_api;
mod commands_crash;
mod commands_guarded;
mod commands_wire;
mod config;
mod conformance;
mod detail;
mod device_buffer;
mod device_quic;
mod devices;
mod exactly_once;
mod fleet;
mod full_disk;
mod guards;
mod hand_over;
mod harness;
mod jobs;
mod kill;
mod links;
mod links_down;
mod mosquitto;
mod pace;
mod path_of_one_event;
mod plugins;
mod plugins_down;
mod quic;
mod readme;
mod replay;
mod replication;
mod salvage;
mod seeded;
mod simulation;
mod site;
mod store;
mod summaries;
mod tidy;
mod topics_down;
mod twins;
