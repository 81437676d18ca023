//! The task of one client: connect, pump, feed, reconnect.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use super::answers::{Call, Handlers, Known};
use super::backoff::Backoff;
use super::link::{self, Broke, Heard, Inlet, Pump};
use super::outbox::{Entry, FOR_NOW, Way};
use super::pauses::Pauses;
use super::shared::{Shared, lock};
use super::terms::Terms;
use crate::command::{CommandId, command_filter, parse_command_topic};
use crate::sequence::Lane;
use crate::twin::{Told, subscriptions_of};

/// The time that the last packet, DISCONNECT, may take.
const FAREWELL_WITHIN: Duration = Duration::from_secs(1);
/// The longest sleep where nothing is to be done later.
const LONG: Duration = Duration::from_secs(3_600);

pub(super) async fn run(shared: Arc<Shared>, handlers: Handlers) {
    let config = &shared.config;
    let mut backoff = Backoff::new(config.backoff_min, config.backoff_max, config.seed);
    let mut pauses = Pauses::new(config.backoff_min, config.backoff_max, config.seed);
    let mut was_stale = false;
    while !shared.is_done() {
        let broke = connection(&shared, &handlers, &mut backoff, &mut pauses).await;
        shared.online.send_replace(false);
        let resent = shared.outbox(|outbox| outbox.disconnected());
        shared.counts.resent.fetch_add(resent as u64, Relaxed);
        let Err(error) = broke else { return };
        shared.counts.breaks.fetch_add(1, Relaxed);
        let is_stale = link::is_stale(&error);
        let for_long = link::is_closed_for_long(&error) || (is_stale && was_stale);
        was_stale = is_stale;
        let wait = if for_long { backoff.wait_long() } else { backoff.wait() };
        tracing::debug!(device = config.device, %error, ?wait, "not connected");
        let mut wait = pin!(sleep(wait));
        let mut waited = false;
        while !shared.is_done() && (!waited || shared.is_held()) {
            tokio::select! {
                () = &mut wait, if !waited => waited = true,
                () = shared.wake.notified() => {}
            }
        }
    }
}

/// A connection that stands, as its parts see it.
struct Connected<'a> {
    shared: &'a Arc<Shared>,
    handlers: &'a Handlers,
    inlet: Inlet,
    pauses: &'a mut Pauses,
    /// Subscriptions that are not answered yet.
    asked: usize,
    online: bool,
}

/// What the outbox sees of it.
struct Gate<'a> {
    inlet: &'a mut Inlet,
    pauses: &'a Pauses,
}

impl Way for Gate<'_> {
    fn has_room(&self, lane: Lane, under_way: usize) -> bool {
        !self.pauses.is_paused(lane) && self.inlet.has_room(lane, under_way)
    }

    fn has_packet_ids(&self) -> bool {
        self.inlet.has_packet_ids()
    }

    fn publish(&mut self, entry: &Entry) -> bool {
        self.inlet.publish(entry)
    }
}

/// One connection from its first byte to its end; `Ok` when the client is done.
async fn connection(
    shared: &Arc<Shared>,
    handlers: &Handlers,
    backoff: &mut Backoff,
    pauses: &mut Pauses,
) -> Result<(), Broke> {
    let (inlet, mut pump) = link::open(&shared.config, !handlers.is_empty());
    let mut connected = Connected { shared, handlers, inlet, pauses, asked: 0, online: false };
    let broken_off = shared.broken_off();
    loop {
        let heard = {
            // A poll that is dropped halfway loses what it did, so that it is kept while others wake us.
            let mut next = pin!(pump.next());
            loop {
                let pause = connected.pauses.next().unwrap_or_else(|| Instant::now() + LONG);
                tokio::select! {
                    heard = &mut next => break heard?,
                    () = shared.wake.notified() => {
                        if shared.broken_off() != broken_off {
                            return Err("it was broken off on purpose".into());
                        }
                        connected.feed();
                        if shared.is_done() {
                            break Heard::Other;
                        }
                    }
                    () = tokio::time::sleep_until(pause.into()) => {
                        connected.pauses.resume(Instant::now());
                        connected.feed();
                    }
                }
            }
        };
        connected.take(heard)?;
        if connected.online && !*shared.online.borrow() {
            backoff.reset();
            shared.online.send_replace(true);
        }
        connected.feed();
        if shared.is_done() {
            if connected.online {
                farewell(&mut connected.inlet, &mut pump).await;
            }
            return Ok(());
        }
    }
}

impl Connected<'_> {
    /// Hands over what the connection takes now.
    fn feed(&mut self) {
        if self.online {
            let mut gate = Gate { inlet: &mut self.inlet, pauses: self.pauses };
            self.shared.outbox(|outbox| while outbox.hand_over(&mut gate) {});
            self.inlet.flush();
        }
    }

    /// Deals with one thing heard.
    fn take(&mut self, heard: Heard) -> Result<(), Broke> {
        let shared = self.shared;
        match heard {
            Heard::Connected { known } => {
                shared.counts.connects.fetch_add(1, Relaxed);
                shared.outbox(|outbox| outbox.known(&known));
                self.subscribe()?;
            }
            Heard::Subscribed { granted } => {
                if !granted {
                    tracing::warn!(
                        device = shared.config.device,
                        "the node refuses the topic of commands or of the twin"
                    );
                }
                self.asked = self.asked.saturating_sub(1);
                self.online = self.asked == 0;
            }
            Heard::Written { packet_id } => shared.outbox(|outbox| outbox.written(packet_id)),
            Heard::Acked { packet_id, refused: Some(code) } if FOR_NOW.contains(&code) => {
                if let Some(lane) = shared.outbox(|outbox| outbox.refused_for_now(packet_id)) {
                    shared.counts.postponed.fetch_add(1, Relaxed);
                    self.pauses.pause(lane, Instant::now());
                }
            }
            Heard::Acked { packet_id, refused: Some(code) } => {
                shared.outbox(|outbox| outbox.refused(packet_id, code));
            }
            Heard::Acked { packet_id, refused: None } => {
                if let Some(lane) = shared.outbox(|outbox| outbox.acked(packet_id)) {
                    self.pauses.acked(lane);
                }
            }
            #[cfg(feature = "quic")]
            Heard::AckedUpTo { .. } | Heard::RefusedRange { .. } | Heard::LaneReset { .. } | Heard::Command { .. } => {
                self.take_native(heard)?
            }
            Heard::Received { topic, payload, terms } => self.message(&topic, payload, terms),
            Heard::Disconnecting | Heard::Other => {}
        }
        Ok(())
    }

    /// Deals with what QUIC alone says.
    #[cfg(feature = "quic")]
    fn take_native(&mut self, heard: Heard) -> Result<(), Broke> {
        use crate::native::Refusal;
        let shared = self.shared;
        match heard {
            Heard::AckedUpTo { lane, number } => {
                shared.outbox(|outbox| outbox.acked_up_to(lane, number));
                self.pauses.acked(lane);
            }
            Heard::RefusedRange { why: Refusal::StaleBoot, .. } => return Err(link::Stale.into()),
            Heard::RefusedRange { lane, boot, first, last, why } => {
                shared.outbox(|outbox| outbox.refused_range(lane, boot, (first, last), code(why)));
            }
            Heard::LaneReset { lane } => {
                shared.outbox(|outbox| outbox.lane_reset(lane));
                self.pauses.pause(lane, Instant::now());
            }
            Heard::Command { id, name, payload, terms, confirm } => {
                self.command(id, &name, payload, terms);
                self.inlet.confirm(confirm);
            }
            _ => {}
        }
        Ok(())
    }

    /// Asks for what is to come by subscription; online when all of it is answered.
    fn subscribe(&mut self) -> Result<(), Broke> {
        let config = &self.shared.config;
        let commands = (!self.handlers.is_empty()).then(|| command_filter(&config.device));
        let twin = config.twin.as_ref().map(|_| subscriptions_of(&config.device));
        let must = self.inlet.must_subscribe();
        for filter in commands.into_iter().chain(twin).filter(|_| must) {
            if !self.inlet.subscribe(&filter) {
                return Err("the connection takes no subscription".into());
            }
            self.asked += 1;
        }
        self.online = self.asked == 0;
        Ok(())
    }

    fn message(&self, topic: &[u8], payload: Bytes, terms: Terms) {
        let (shared, device) = (self.shared, &self.shared.config.device);
        let topic = std::str::from_utf8(topic).unwrap_or_default();
        if let Some(parsed) = parse_command_topic(topic).ok().filter(|parsed| parsed.device == device) {
            self.command(parsed.id, parsed.name, payload, terms);
        } else if let (Some(handler), Some(told)) = (&shared.config.twin, Told::read(device, topic, &payload)) {
            handler.run(told, Arc::clone(shared));
        } else {
            tracing::debug!(device, topic, "a message that is no command and of no twin");
        }
    }

    fn command(&self, id: CommandId, name: &str, payload: Bytes, terms: Terms) {
        let shared = self.shared;
        let known = lock(&shared.memory).arrive(id);
        let count = match &known {
            Known::New => &shared.counts.commands,
            Known::Running | Known::Ended(_) => &shared.counts.repeats,
            Known::NotRecorded(_) => &shared.counts.commands,
        };
        count.fetch_add(1, Relaxed);
        match known {
            Known::New => self.handlers.run(Call::new(id, name, payload, terms, shared.clone())),
            Known::Running => {}
            Known::Ended(said) | Known::NotRecorded(said) => shared.answer(id, said),
        }
    }
}

/// The MQTT 5 reason code that means the same as a refusal by QUIC.
#[cfg(feature = "quic")]
fn code(why: crate::native::Refusal) -> u8 {
    use crate::native::Refusal;
    match why {
        Refusal::TopicInvalid | Refusal::NoRule => 0x90,
        Refusal::NotAllowed | Refusal::StaleBoot => 0x87,
        Refusal::TooLarge | Refusal::TooManyDevices => 0x83,
    }
}

/// Says DISCONNECT and sees it off.
async fn farewell(inlet: &mut Inlet, pump: &mut Pump) {
    if inlet.disconnect() {
        let gone = async { while !matches!(pump.next().await, Ok(Heard::Disconnecting) | Err(_)) {} };
        // Too slow a farewell is a plain close.
        let _ = timeout(FAREWELL_WITHIN, gone).await;
    }
}
