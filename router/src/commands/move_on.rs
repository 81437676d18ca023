//! Commands that wait here go on to the node that their device is connected to.
//!
//! However a command came here (submitted, from a plugin, a job, a dead letter sent again, taken up from a lost node):
//! where its device is connected to another node, that one is asked to take it. The step `moving` is durable before. What
//! has no answer is asked again until it has one; the same command again is the same.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use devices::command::{CommandId, StepEvent};
use parking_lot::Mutex;
use sled_data::OriginId;

use super::Commands;
use super::down::{
    ASKED_MAX, Answer, CalledOffV2, call_offs, decode_answers, decode_called_off, is_at_site, take_answer,
    take_called_off,
};
use super::forward::{ForwardError, is_refusal};
use super::offered::{Judged, MoveV2, MovedV2, decode, encode, moves_of};
use super::table::{Now, Room, Table};
use crate::event_log::{AppendError, NO_HEADERS, NewEvent, OpenCommit, Ticket, Topic};
use crate::sessions::Whereabouts;

/// Commands that one node is asked to take at once.
const BATCH_MAX: usize = 256;
/// Bytes of them.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Time between two questions about commands that have no answer, in milliseconds.
const ASK_AGAIN_MS: u64 = 1_000;
/// Commands that are asked about again at once.
const UNSURE_MAX: usize = 1_024;
/// Commands that a node is to be asked to take.
pub(super) struct Batch {
    to: OriginId,
    ids: Vec<CommandId>,
    request: Vec<u8>,
    /// Whether they were never asked for before: without a way there, nobody has them.
    is_first: bool,
    kind: Kind,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// That another node takes commands.
    Node,
    /// That a gateway of a linked site takes them.
    Down,
    /// That it calls them off.
    CallOff,
}

/// What came of it.
pub(super) struct Moves {
    pub(super) batch: Batch,
    answer: Result<Vec<Told>, ForwardError>,
}

/// What one that was asked says of a command.
enum Told {
    ByNode(MovedV2),
    BySite(Answer),
    CalledOff(CalledOffV2),
}

impl Batch {
    /// Reads an answer, one for each command; fewer where the rest is not known.
    fn read(&self, answer: &[u8]) -> Vec<Told> {
        match self.kind {
            Kind::Down => return decode_answers(answer).into_iter().map(Told::BySite).collect(),
            Kind::CallOff => {
                return decode_called_off(answer, self.ids.len()).into_iter().map(Told::CalledOff).collect();
            }
            Kind::Node => {}
        }
        let answers = match decode::<Vec<MovedV2>>(answer) {
            Some(answers) => answers,
            // An older release does not know the question, and says so in its own words.
            None if is_refusal(answer) => vec![MovedV2::Refused; self.ids.len()],
            None => Vec::new(),
        };
        answers.into_iter().map(Told::ByNode).collect()
    }
}

/// What is under way to other nodes.
#[derive(Default)]
pub(super) struct Movers {
    /// Nodes that are being asked: one question at a time each.
    asked: HashSet<OriginId>,
    /// Those of them whose question is out: it may be answered yet, whatever becomes of the round that asked.
    out: Arc<Mutex<HashSet<OriginId>>>,
    /// Devices whose commands wait for that, at most those that have commands.
    waiting: BTreeSet<Arc<str>>,
    /// What gateways that have not said all were asked again last; at most as many as can be asked.
    turns: HashMap<OriginId, Turn>,
    /// When those without an answer are asked about again, on the steady clock.
    again_ms: u64,
}

/// What a gateway was asked again last.
#[derive(Default)]
struct Turn {
    /// To call commands off: then it is asked next about those that it has not answered about.
    is_call_off: bool,
    /// The last command that it was asked to call off.
    last: Option<CommandId>,
}

impl Movers {
    /// When there is work next, on the steady clock, where something has no answer.
    pub(super) fn again_ms(&self) -> u64 {
        self.again_ms
    }

    /// What has no answer is asked about again in the next round.
    pub(super) fn ask_now(&mut self) {
        self.again_ms = 0;
    }

    /// The table is rebuilt. Questions that are out are answered yet; those of a round that failed were never asked.
    pub(super) fn start_over(&mut self) {
        let asked = self.out.lock().clone();
        *self = Self { asked, out: Arc::clone(&self.out), ..Self::default() };
    }
}

impl Commands {
    /// Where a device is that no session here speaks for.
    pub(super) fn away_at(&self, device: &str) -> Option<OriginId> {
        self.forward.get()?;
        match self.sessions.whereabouts(device) {
            Whereabouts::At(origin) => Some(origin),
            Whereabouts::Here | Whereabouts::Nowhere => None,
        }
    }

    /// Gives commands to the nodes of their devices, as far as those can be asked now.
    pub(super) fn hand_on(&self, table: &mut Table, found: Vec<(Arc<str>, OriginId)>, now: Now) -> Vec<Batch> {
        let mut movers = self.movers.lock();
        let mut rooms: HashMap<OriginId, (Room, Vec<CommandId>)> = HashMap::new();
        for (device, to) in found {
            if movers.asked.contains(&to) {
                movers.waiting.insert(device);
                continue;
            }
            let room = match is_at_site(&device) {
                true => Self::room_at(table, to),
                false => Room { count: BATCH_MAX, bytes: BATCH_BYTES_MAX },
            };
            let (room, ids) = rooms.entry(to).or_insert((room, Vec::new()));
            ids.extend(table.hand_over(&device, to, room, now));
            if table.waits(&device) {
                movers.waiting.insert(device);
            }
        }
        let mut batches: Vec<Batch> = Vec::new();
        for (to, (_, ids)) in rooms.into_iter().filter(|(_, (_, ids))| !ids.is_empty()) {
            movers.asked.insert(to);
            batches.push(self.batch(table, to, ids, true, now));
        }
        if now.steady >= movers.again_ms {
            movers.again_ms = now.steady + ASK_AGAIN_MS;
            batches.extend(self.ask_again(table, &mut movers, now));
        }
        batches
    }

    /// What has no answer is asked about again.
    fn ask_again(&self, table: &Table, movers: &mut Movers, now: Now) -> Vec<Batch> {
        let mut by_node: HashMap<OriginId, Vec<CommandId>> = HashMap::new();
        for id in table.unsure(UNSURE_MAX) {
            let Some(away) = table.get(id).and_then(|entry| entry.away) else { continue };
            let ids = by_node.entry(away.to).or_default();
            if !movers.asked.contains(&away.to) && ids.len() < BATCH_MAX {
                ids.push(id);
            }
        }
        let mut batches = Vec::new();
        let gateways = self.unsure_gateways(table);
        movers.turns.retain(|gateway, _| gateways.contains(gateway));
        for gateway in gateways.into_iter().filter(|gateway| !movers.asked.contains(gateway)) {
            let turn = movers.turns.entry(gateway).or_default();
            let again = Self::again_at(table, gateway);
            // A call-off may be answered by "later", as often as it is asked for.
            let called_off = match turn.is_call_off && !again.is_empty() {
                true => Vec::new(),
                false => table.call_offs_at(gateway, turn.last, ASKED_MAX),
            };
            turn.is_call_off = !called_off.is_empty();
            if called_off.is_empty() {
                by_node.insert(gateway, again);
            } else {
                turn.last = called_off.last().copied();
                let request = call_offs(table, &called_off);
                batches.push(Batch { to: gateway, ids: called_off, request, is_first: false, kind: Kind::CallOff });
            }
        }
        by_node.retain(|_, ids| !ids.is_empty());
        batches.extend(by_node.into_iter().map(|(to, ids)| self.batch(table, to, ids, false, now)));
        movers.asked.extend(batches.iter().map(|batch| batch.to));
        batches
    }

    fn batch(&self, table: &Table, to: OriginId, ids: Vec<CommandId>, is_first: bool, now: Now) -> Batch {
        if ids.first().and_then(|id| table.get(*id)).is_some_and(|entry| is_at_site(&entry.device)) {
            let request = Self::given(table, &ids, is_first, now);
            return Batch { to, ids, request, is_first, kind: Kind::Down };
        }
        let moves = moves_of(table, self.log.origin(), &ids, now);
        Batch { to, ids, request: encode(&moves), is_first, kind: Kind::Node }
    }

    /// Asks for each batch, on its own; what comes of it is in the mail.
    pub(super) fn ask_to_take(&self, batches: Vec<Batch>) {
        for batch in batches {
            let forward = self.forward.get().map(Arc::clone);
            let is_down = batch.kind != Kind::Node;
            let below = is_down.then(|| self.ask_gateway(batch.to, batch.request.clone()));
            let (mail, out) = (Arc::clone(&self.mail), Arc::clone(&self.movers.lock().out));
            out.lock().insert(batch.to);
            tokio::spawn(async move {
                let answer = match (below, forward) {
                    (Some(below), _) => below.await,
                    (None, Some(forward)) => forward.submit(batch.to, batch.request.clone()).await,
                    (None, None) => Err(ForwardError::Unreachable("there is no way".to_owned())),
                };
                out.lock().remove(&batch.to);
                let answer = answer.map(|answer| batch.read(&answer));
                mail.moved(Moves { batch, answer });
            });
        }
    }

    /// Takes what came of a batch.
    pub(super) fn take_moves(&self, table: &mut Table, moves: Moves, now: Now) {
        let Moves { batch, answer } = moves;
        let waiting = {
            let mut movers = self.movers.lock();
            movers.asked.remove(&batch.to);
            std::mem::take(&mut movers.waiting)
        };
        waiting.iter().for_each(|device| table.session_came(device));
        match answer {
            Ok(answers) => {
                for (id, answer) in batch.ids.iter().zip(answers) {
                    match answer {
                        Told::ByNode(MovedV2::Taken) => table.moved(*id, batch.to, now),
                        Told::ByNode(MovedV2::NotHere | MovedV2::Refused) => table.stays(*id, batch.to, now),
                        Told::BySite(answer) => take_answer(table, (*id, batch.to), answer, now),
                        Told::CalledOff(answer) => take_called_off(table, (*id, batch.to), answer, now),
                    }
                }
            }
            Err(ForwardError::Unreachable(_)) if batch.is_first => {
                batch.ids.iter().for_each(|id| table.stays(*id, batch.to, now));
            }
            // It may have them: asked again.
            Err(error) => tracing::debug!(to = %batch.to, %error, "it is not known yet who has some commands"),
        }
    }

    /// Takes commands that another node hands over, in one commit, and says of each what became of it; durable where it was
    /// taken.
    pub(super) async fn take_moved(self: &Arc<Self>, request: &[u8]) -> Vec<u8> {
        let Some(moves) = decode::<Vec<MoveV2>>(request) else { return encode(&Vec::<MovedV2>::new()) };
        let room = Arc::clone(self);
        // Once begun it goes on although the connection goes away.
        let taken = tokio::spawn(async move { room.take_all(moves).await });
        encode(&taken.await.unwrap_or_default())
    }

    /// What became of each; less than there are where it is not known, as of those behind one that is being taken.
    async fn take_all(&self, moves: Vec<MoveV2>) -> Vec<MovedV2> {
        let now = self.now();
        let mut judged: Vec<Judged> = Vec::new();
        for one in moves.iter().take(BATCH_MAX) {
            let table = self.table.lock();
            let is_here = |device: &str, name: &str| self.where_to(device, name) == Whereabouts::Here;
            let Some(one) = self.desk.lock().judge(one, &table, is_here, now) else { break };
            judged.push(one);
        }
        let told = match self.append_taken(&judged) {
            Ok(None) => return judged.iter().map(Judged::taken).collect(),
            // What is durable is known to the table soon, which ends its taking.
            Ok(Some(ticket)) => match self.log.durable(ticket).await {
                Ok(_) => return judged.iter().map(Judged::taken).collect(),
                Err(error) => {
                    tracing::warn!(%error, "commands of another node could not be taken; it asks again");
                    Vec::new()
                }
            },
            Err(()) => return self.desk.lock().refuse(&judged, now),
        };
        self.desk.lock().end(&judged);
        told
    }

    /// Appends the first steps of those that are taken, all or none; `None` where there are none, `Err` where nothing can be
    /// appended now.
    fn append_taken(&self, judged: &[Judged]) -> Result<Option<Ticket>, ()> {
        let new: Vec<(&str, &StepEvent)> = judged.iter().filter_map(Judged::step).collect();
        if new.is_empty() {
            return Ok(None);
        }
        let mut open = self.log.lock();
        let largest = new.iter().map(|(device, step)| device.len() + step.encode().len()).max();
        open.check(largest.unwrap_or(0)).map_err(drop)?;
        for (device, step) in new {
            // Nothing is refused after the check.
            append_step(&mut open, &self.commands, device, step).map_err(drop)?;
        }
        Ok(Some(open.ticket()))
    }
}

/// Appends a submission to the open commit.
pub(super) fn append_step(
    open: &mut OpenCommit<'_>,
    commands: &Topic,
    device: &str,
    step: &StepEvent,
) -> Result<(), AppendError> {
    let value = step.encode();
    let event = NewEvent {
        timestamp_ms: i64::try_from(step.at_ms).unwrap_or(i64::MAX),
        key: Some(device.as_bytes()),
        value: Some(&value),
        headers: &NO_HEADERS,
        extra: &NO_HEADERS,
        fanned_out: true,
    };
    open.append_keyed(commands, &event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starting_over_keeps_the_questions_that_are_out() {
        let mut movers = Movers::default();
        movers.asked.extend([OriginId(1), OriginId(2)]);
        movers.out.lock().insert(OriginId(1));
        movers.start_over();
        assert_eq!(movers.asked, HashSet::from([OriginId(1)]), "the other one was never asked");
        movers.out.lock().clear();
        movers.start_over();
        assert!(movers.asked.is_empty());
    }
}
