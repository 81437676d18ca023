//! The task of one client: connect, pump, feed, reconnect.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use super::answers::{Call, Handlers, Known};
use super::backoff::Backoff;
use super::handle::{Shared, lock};
use super::link::{self, Broke, Heard, Inlet, Pump};
use super::outbox::Fate;
use crate::command::{command_filter, parse_command_topic};

/// The time that the last packet, DISCONNECT, may take.
const FAREWELL_WITHIN: Duration = Duration::from_secs(1);

pub(super) async fn run(shared: Arc<Shared>, handlers: Handlers) {
    let config = &shared.config;
    let mut backoff = Backoff::new(config.backoff_min, config.backoff_max, config.seed);
    while !shared.is_done() {
        let broke = connection(&shared, &handlers, &mut backoff).await;
        shared.online.send_replace(false);
        let resent = lock(&shared.outbox).disconnected();
        shared.counts.resent.fetch_add(resent as u64, Relaxed);
        let Err(error) = broke else { return };
        shared.counts.breaks.fetch_add(1, Relaxed);
        let wait = backoff.wait();
        tracing::debug!(device = config.device, %error, ?wait, "not connected");
        let mut wait = pin!(sleep(wait));
        while !shared.is_done() {
            tokio::select! {
                () = &mut wait => break,
                () = shared.wake.notified() => {}
            }
        }
    }
}

impl Shared {
    /// Whether there is nothing left to do.
    fn is_done(&self) -> bool {
        self.stopping.load(Relaxed) && lock(&self.outbox).len() == 0
    }

    /// Hands over what the window takes.
    fn feed(&self, inlet: &Inlet) -> Result<(), Broke> {
        let mut outbox = lock(&self.outbox);
        while let Some(entry) = outbox.hand_over() {
            if !inlet.publish(entry) {
                return Err("the connection takes no more requests".into());
            }
        }
        Ok(())
    }
}

/// One connection from its first byte to its end; `Ok` when the client is done.
async fn connection(shared: &Arc<Shared>, handlers: &Handlers, backoff: &mut Backoff) -> Result<(), Broke> {
    let (inlet, mut pump) = link::open(&shared.config);
    let mut online = false;
    loop {
        let heard = {
            // A poll that is dropped halfway loses what it did, so that it is kept while others wake us.
            let mut next = pin!(pump.next());
            loop {
                tokio::select! {
                    heard = &mut next => break heard?,
                    () = shared.wake.notified() => {
                        if online {
                            shared.feed(&inlet)?;
                        }
                        if shared.is_done() {
                            break Heard::Other;
                        }
                    }
                }
            }
        };
        online |= take(shared, handlers, &inlet, heard)?;
        if online {
            if !*shared.online.borrow() {
                backoff.reset();
                shared.online.send_replace(true);
            }
            shared.feed(&inlet)?;
        }
        if shared.is_done() {
            if online {
                farewell(&inlet, &mut pump).await;
            }
            return Ok(());
        }
    }
}

/// Deals with one thing heard; `true` when publishes may flow from now on.
fn take(shared: &Arc<Shared>, handlers: &Handlers, inlet: &Inlet, heard: Heard) -> Result<bool, Broke> {
    match heard {
        Heard::Connected => {
            shared.counts.connects.fetch_add(1, Relaxed);
            if handlers.is_empty() {
                return Ok(true);
            }
            if !inlet.subscribe(&command_filter(&shared.config.device)) {
                return Err("the connection takes no subscription".into());
            }
        }
        Heard::Subscribed { granted: true } => return Ok(true),
        Heard::Subscribed { granted: false } => {
            tracing::warn!(device = shared.config.device, "the node refuses the command topic");
            return Ok(true);
        }
        Heard::Written { packet_id } => {
            let done = lock(&shared.outbox).written(packet_id);
            if let Some(done) = done {
                done(Fate::Written);
            }
        }
        Heard::Acked { packet_id, refused } => {
            let done = lock(&shared.outbox).acked(packet_id);
            if let Some((done, repeated)) = done {
                let (fate, count) = match refused {
                    None => (Fate::Acked { repeated }, &shared.counts.acked),
                    Some(code) => (Fate::Refused(code), &shared.counts.refused),
                };
                count.fetch_add(1, Relaxed);
                done(fate);
            }
        }
        Heard::Received { topic, payload } => command(shared, handlers, &topic, payload),
        Heard::Disconnecting | Heard::Other => {}
    }
    Ok(false)
}

fn command(shared: &Arc<Shared>, handlers: &Handlers, topic: &[u8], payload: Bytes) {
    let parsed = std::str::from_utf8(topic)
        .ok()
        .and_then(|topic| parse_command_topic(topic).ok())
        .filter(|parsed| parsed.device == shared.config.device);
    let Some(parsed) = parsed else {
        tracing::debug!(device = shared.config.device, "a message that is no command");
        return;
    };
    let known = lock(&shared.memory).arrive(parsed.id);
    let count = match &known {
        Known::New => &shared.counts.commands,
        Known::Running | Known::Ended(..) => &shared.counts.repeats,
    };
    count.fetch_add(1, Relaxed);
    match known {
        Known::New => handlers.run(Call::new(parsed.id, parsed.name, payload, shared.clone())),
        Known::Running => {}
        Known::Ended(status, payload) => shared.answer(parsed.id, status, payload),
    }
}

/// Says DISCONNECT and sees it off.
async fn farewell(inlet: &Inlet, pump: &mut Pump) {
    if inlet.disconnect() {
        let gone = async { while !matches!(pump.next().await, Ok(Heard::Disconnecting) | Err(_)) {} };
        // Too slow a farewell is a plain close.
        let _ = timeout(FAREWELL_WITHIN, gone).await;
    }
}
