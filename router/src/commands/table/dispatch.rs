//! From the queue to a session: windows, guards, and what comes back.

use std::collections::BTreeSet;
use std::sync::Arc;

use devices::command::{CommandId, Input, Repeat, Rewritten, State, Step, TEXT_BYTES_MAX, Why, WhyCode};

use super::device::Ask;
use super::{Effect, Now, Table};
use crate::security::Judgement;

/// Devices that get commands at once at most: what they get is in one commit.
pub const WANTING_AT_ONCE_MAX: usize = 1_000;
/// Time before a command is offered again to the session that let it fall, in milliseconds.
const RETRY_AFTER_MS: u64 = 100;
/// How long what guards allowed stays allowed, in milliseconds; then they are asked again.
const ALLOWED_FOR_MS: u64 = 1_000;

/// Says of a device and a command's name whether guards are to be asked.
pub type Guarded<'a> = &'a dyn Fn(&str, &str) -> bool;

/// A session that takes commands, and for how many it has room.
#[derive(Debug)]
pub struct Receiver<'a> {
    /// Its number.
    pub session: u64,
    /// Its client id.
    pub client: &'a Arc<str>,
    /// Commands that it has room for, the urgent ones last.
    pub room: [usize; 2],
}

impl Receiver<'_> {
    fn room(&self, urgent: bool) -> usize {
        self.room[usize::from(urgent)]
    }

    fn take(&mut self, urgent: bool) {
        self.room[usize::from(urgent)] -= 1;
    }
}

impl Table {
    /// Devices that want a session, each with the command that is next: those whose queue or window has changed
    /// since the last call, at most [`WANTING_AT_ONCE_MAX`].
    pub fn take_wanting(&mut self) -> Vec<(Arc<str>, CommandId)> {
        let rest = match self.wanting.iter().nth(WANTING_AT_ONCE_MAX).cloned() {
            Some(next) => self.wanting.split_off(&next),
            None => BTreeSet::new(),
        };
        let wanting = std::mem::replace(&mut self.wanting, rest);
        wanting.iter().filter_map(|name| self.next_of(name)).collect()
    }

    /// Whether there are more than were taken.
    pub fn has_wanting(&self) -> bool {
        !self.wanting.is_empty()
    }

    /// A session has come that takes commands of this device.
    pub fn session_came(&mut self, device: &str) {
        if let Some((name, _)) = self.devices.get_key_value(device) {
            self.wanting.insert(Arc::clone(name));
        }
    }

    /// It is not known for which devices sessions have come: all of them are looked at.
    pub fn all_came(&mut self) {
        self.wanting.extend(self.devices.keys().cloned());
    }

    fn next_of(&self, name: &Arc<str>) -> Option<(Arc<str>, CommandId)> {
        let id = self.devices.get(name)?.next(self.config.in_flight_per_device_max)?;
        Some((Arc::clone(name), id))
    }

    /// A session can take the device's commands: those that the windows and the session have room for are offered to
    /// it, urgent ones first. Those that are `guarded` wait until the guards have allowed them.
    pub fn available(&mut self, device: &str, receiver: &mut Receiver<'_>, guarded: Guarded<'_>, now: Now) {
        let (session, client) = (receiver.session, receiver.client);
        for urgent in [true, false] {
            while let Some(id) = self.next_to_offer(device, receiver, urgent, guarded, now) {
                if let Some(entry) = self.entries.get_mut(&id) {
                    entry.add_recipient(session, client);
                }
                let client = client.to_string();
                self.step(id, Input::Sent(session), now, |entry| Step::Sent {
                    session,
                    client,
                    attempt: entry.progress.attempts(),
                });
                self.withdraw_older(id, session);
                if urgent && self.get(id).is_some_and(|entry| guarded(device, &entry.queued.name)) {
                    self.effects.push(Effect::Ask(id));
                }
                self.effects.push(Effect::Offer(id, session));
            }
        }
    }

    /// What a command takes the place of is taken back where its session has it yet, so that it is not done behind its
    /// successor, which may be urgent.
    fn withdraw_older(&mut self, id: CommandId, session: u64) {
        let Some(entry) = self.entries.get(&id).filter(|entry| entry.queued.supersede.is_some()) else { return };
        let Some(device) = self.devices.get(&entry.device) else { return };
        let under_way = [false, true].into_iter().flat_map(|urgent| device.lane(urgent).in_flight.range(..entry.order));
        let older = under_way.filter(|(_, old)| {
            self.entries.get(*old).is_some_and(|old| {
                old.queued.supersede == entry.queued.supersede && old.progress.session() == Some(session)
            })
        });
        self.effects.extend(older.map(|(_, old)| Effect::Withdraw(*old, session)));
    }

    /// The head of a queue, if it may go to the session now. Where guards must be asked first, they are: about as many
    /// as there is room for.
    fn next_to_offer(
        &mut self,
        device: &str,
        receiver: &mut Receiver<'_>,
        urgent: bool,
        guarded: Guarded<'_>,
        now: Now,
    ) -> Option<CommandId> {
        let (name, known) = self.devices.get_key_value(device)?;
        let room = self.config.in_flight_per_device_max.saturating_sub(known.lane(urgent).in_flight.len());
        if room == 0 || known.rests(receiver.session, now) {
            return None;
        }
        let (order, id) = known.lane(urgent).queue.first_key_value().map(|(order, id)| (*order, *id))?;
        if receiver.room(urgent) == 0 {
            let name = Arc::clone(name);
            self.crowd_session(&name, receiver.session, now);
            return None;
        }
        let is_guarded = !urgent && self.get(id).is_some_and(|entry| guarded(device, &entry.queued.name));
        let is_allowed = matches!(known.ask(order), Some(Ask::Allowed(until)) if until > now.steady);
        if !is_guarded || is_allowed {
            receiver.take(urgent);
            return Some(id);
        }
        self.ask_ahead(device, room, guarded, now);
        None
    }

    /// Asks the guards about the head of a queue and those behind it that there is room for.
    fn ask_ahead(&mut self, device: &str, room: usize, guarded: Guarded<'_>, now: Now) {
        let Some((name, known)) = self.devices.get_key_value(device) else { return };
        let name = Arc::clone(name);
        let is_judged = |order: u64| match known.ask(order) {
            Some(Ask::Asked) => true,
            Some(Ask::Allowed(until)) => until > now.steady,
            None => false,
        };
        let is_guarded = |id: &CommandId| self.get(*id).is_some_and(|entry| guarded(device, &entry.queued.name));
        let waiting = known.lane(false).queue.iter().take(room);
        let waiting = waiting.filter(|(order, id)| !is_judged(**order) && is_guarded(id));
        let waiting: Vec<(u64, CommandId)> = waiting.map(|(order, id)| (*order, *id)).collect();
        for (order, id) in waiting {
            if self.asked >= self.config.asked_max {
                return self.crowd_guards(&name, now);
            }
            if let Some(known) = self.devices.get_mut(device) {
                known.set_ask(order, Ask::Asked);
                self.asked += 1;
                self.effects.push(Effect::Ask(id));
            }
        }
    }

    /// The guards have judged a command. What they say of one that does not wait any more changes nothing; that an
    /// urgent one went against their word is noted.
    pub fn judged(&mut self, id: CommandId, judgement: Judgement, now: Now) {
        let Some(entry) = self.entries.get(&id) else { return };
        if entry.queued.urgent {
            return self.overridden(id, judgement, now);
        }
        let (order, name) = (entry.order, Arc::clone(&entry.device));
        let Some(device) = self.devices.get_mut(&name) else { return };
        if device.ask(order) != Some(Ask::Asked) {
            return;
        }
        self.asked -= 1;
        device.set_ask(order, Ask::Allowed(now.steady + ALLOWED_FOR_MS));
        self.wanting.insert(name);
        self.room_for_question();
        match judgement {
            Judgement::Allow => {}
            Judgement::Rewrite { guard, payload } => self.rewrite(id, guard, payload, now),
            Judgement::Deny { guard, reason } => self.refuse(id, forbidden(WhyCode::Denied, guard, reason), now),
            Judgement::Failed { guard, reason } => self.refuse(id, forbidden(WhyCode::GuardFailed, guard, reason), now),
        }
    }

    /// Notes that an urgent command went, or had gone, although a guard would have kept it back.
    fn overridden(&mut self, id: CommandId, judgement: Judgement, now: Now) {
        let why = match judgement {
            Judgement::Allow | Judgement::Rewrite { .. } => return,
            Judgement::Deny { guard, reason } => forbidden(WhyCode::Denied, guard, reason),
            Judgement::Failed { guard, reason } => forbidden(WhyCode::GuardFailed, guard, reason),
        };
        self.change(id, |entry| entry.overridden = Some(Box::new(why.clone())));
        self.append(id, now, Step::GuardOverridden(why));
    }

    fn rewrite(&mut self, id: CommandId, by: String, payload: Vec<u8>, now: Now) {
        if self.get(id).is_some_and(|entry| entry.queued.payload.0 == payload) {
            return;
        }
        self.change(id, |entry| entry.rewrite(&payload));
        self.append(id, now, Step::Rewritten(Rewritten { by, payload: payload.into() }));
    }

    /// A command is larger than its session's client takes: it was not written, and never will be.
    pub fn too_large(&mut self, id: CommandId, session: u64, now: Now) {
        self.unsent(id, session, now);
        let is_queued = self.get(id).is_some_and(|entry| entry.progress.state() == State::Queued);
        if is_queued {
            self.refuse(id, Why::code(WhyCode::TooLarge), now);
        }
    }

    /// A session never wrote a command to its connection.
    pub fn unsent(&mut self, id: CommandId, session: u64, now: Now) {
        self.room_in_session(session);
        let moved = self.step(id, Input::Unsent(session), now, |entry| {
            entry.recipients.retain(|(number, _)| *number != session);
            Step::Returned { session, unsent: true }
        });
        self.came_back(id, session, moved.is_some_and(|verdict| verdict.moved()), now);
    }

    /// A session ended before the device confirmed what it had been sent. `refuses_repeats`: it is known of the device
    /// that it refuses what it has done.
    pub fn dropped(&mut self, id: CommandId, session: u64, refuses_repeats: bool, now: Now) {
        self.room_in_session(session);
        let Some(entry) = self.entries.get(&id) else { return };
        let deliveries_max = entry.queued.deliveries_max.unwrap_or(u32::MAX).min(self.config.deliveries_max);
        let lost = if entry.queued.repeat == Repeat::Never && !refuses_repeats {
            Some(WhyCode::NotRepeatable)
        } else if entry.progress.attempts() >= deliveries_max {
            Some(WhyCode::DeliveriesExhausted)
        } else {
            None
        };
        if let Some(code) = lost {
            let why = Why::code(code);
            self.step(id, Input::Lost(session), now, |entry| {
                entry.why = Some(Box::new(why.clone()));
                Step::Unknown(why)
            });
            return;
        }
        let moved = self.step(id, Input::Dropped(session), now, |_| Step::Returned { session, unsent: false });
        self.came_back(id, session, moved.is_some_and(|verdict| verdict.moved()), now);
    }

    /// A command is queued again: the session rests, and what has a newer one is not sent again.
    fn came_back(&mut self, id: CommandId, session: u64, moved: bool, now: Now) {
        let Some(entry) = self.entries.get(&id).filter(|_| moved) else { return };
        let Some(device) = self.devices.get_mut(&entry.device) else { return };
        let until = now.steady + RETRY_AFTER_MS;
        device.resting = Some((session, until));
        let newer = device.newer_than(entry);
        self.rested.insert((until, Arc::clone(&entry.device)));
        if let Some(newer) = newer {
            self.end_queued(id, Input::Superseded, Why::by(WhyCode::Superseded, newer.to_string()), now);
        }
    }

    /// The device confirmed its receipt.
    pub fn delivered(&mut self, id: CommandId, session: u64, now: Now) {
        self.room_in_session(session);
        if self.get(id).is_some_and(|entry| entry.away.is_some()) {
            return;
        }
        self.step(id, Input::Delivered(session), now, |_| Step::Delivered { session });
    }

    /// Whether a command is handed to this session and not confirmed.
    pub fn is_sent_to(&self, id: CommandId, session: u64) -> bool {
        let sent = |entry: &&super::Entry| entry.progress.state() == State::Sent;
        self.get(id).filter(sent).and_then(|entry| entry.progress.session()) == Some(session)
    }
}

fn forbidden(code: WhyCode, by: String, mut text: String) -> Why {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    Why { code, by, text }
}
