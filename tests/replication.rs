//! A site of real nodes: what is published at one is on all, whatever dies, is cut off, comes or goes.

mod agreed;
mod commands;
mod copies;
mod crashes;
mod cut_off;
mod forked;
mod gaps;
mod grown;
mod lag;
mod leaving;
mod left_alone;
mod load;
mod members;
mod newest;
mod outside;
mod paused;
mod plugins;
mod resends;
mod routes;
mod subscribers;
mod unsure;
mod upgrade;
