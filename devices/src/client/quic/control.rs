//! The control stream: commands in, confirmations and the goodbye out.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use quinn::SendStream;

use super::Say;
use super::frames::Frames;
use super::inlet::Shared;
use crate::client::link::{Broke, Heard};
use crate::client::terms::Terms;
use crate::command::CommandId;
use crate::native::{FromDevice, ToDevice, decode, encode};

/// The control stream after its first two frames.
pub(super) struct Control {
    pub(super) send: SendStream,
    pub(super) frames: Frames,
    pub(super) device: String,
}

impl Control {
    /// What listens, and what speaks until the client goes.
    pub(super) fn halves<'a>(
        self,
        shared: &'a Shared,
        say: &'a Say,
    ) -> (impl Future<Output = Result<Infallible, Broke>> + 'a, impl Future<Output = Result<(), Broke>> + 'a) {
        (listen(self.frames, self.device, say), speak(self.send, shared))
    }
}

async fn listen(mut frames: Frames, own: String, say: &Say) -> Result<Infallible, Broke> {
    loop {
        let command = decode(frames.next().await?)?;
        let ToDevice::Command { delivery, device, id, name, expires_in_ms, properties, payload } = command else {
            return Err("the node welcomes twice".into());
        };
        if device != own {
            tracing::warn!(device, own, "a command for a device that is not reached through this client");
            continue;
        }
        let (id, name, payload) = (CommandId::from_bytes(id), name.to_owned(), Bytes::copy_from_slice(payload));
        let terms = Terms::new(expires_in_ms.map(Duration::from_millis), properties);
        say.send(Ok(Heard::Command { id, name, payload, terms, confirm: delivery })).await?;
    }
}

async fn speak(mut send: SendStream, shared: &Shared) -> Result<(), Broke> {
    let (mut said, mut bytes) = (0, Vec::new());
    loop {
        shared.asked.notified().await;
        let delivery = shared.taken();
        if delivery > said {
            said = delivery;
            encode(&FromDevice::Received { delivery }, &mut bytes)?;
        }
        if shared.goes() {
            encode(&FromDevice::Goodbye, &mut bytes)?;
        }
        send.write_all(&bytes).await?;
        bytes.clear();
        if shared.goes() {
            send.finish()?;
            // The node has it all, or has gone.
            send.stopped().await?;
            return Ok(());
        }
    }
}
