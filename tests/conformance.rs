//! What MQTT clients may rely on, area by area, in both versions.

mod delivery;
mod flow;
mod keep_alive;
mod requests;
mod retained;
mod sessions;
mod subscriptions;
mod wills;
