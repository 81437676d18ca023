//! The events stream: one subscription, and what it brings.

use std::convert::Infallible;

use bytes::Bytes;
use quinn::Connection;

use super::Say;
use super::frames::Frames;
use crate::client::link::{Broke, Heard};
use crate::client::terms::Terms;
use crate::native::{Open, Told, Want, decode, encode};

/// Subscribes, and tells of what comes. Without a filter there is nothing to do, and it does not end.
pub(super) async fn listen(connection: &Connection, filter: Option<&str>, say: &Say) -> Result<Infallible, Broke> {
    let Some(filter) = filter else { return std::future::pending().await };
    let (mut send, receive) = connection.open_bi().await?;
    let mut bytes = Vec::new();
    encode(&Open::Events, &mut bytes)?;
    encode(&Want::Subscribe { filter }, &mut bytes)?;
    send.write_all(&bytes).await?;
    let mut frames = Frames::new(receive);
    loop {
        match decode(frames.next().await?)? {
            Told::Event { topic, payload, .. } => {
                let (topic, payload) = (Bytes::copy_from_slice(topic.as_bytes()), Bytes::copy_from_slice(payload));
                say.send(Ok(Heard::Received { topic, payload, terms: Terms::new(None, []) })).await?;
            }
            Told::Subscribed { refused: Some(why) } => {
                tracing::warn!(filter, ?why, "the node refuses the subscription")
            }
            Told::Subscribed { refused: None } | Told::Unsubscribed => {}
        }
    }
}
