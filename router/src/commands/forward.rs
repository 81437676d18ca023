//! Commands go where their device is: a submission for a device that is connected to another node is handed over to it.
//!
//! That node is then the issuer: it alone appends the command's steps and its outcome. It is asked under an id that is drawn
//! here, so that whoever submits knows the command by it whatever happens on the way. Where it may have taken the command and
//! has not said so, nothing is queued here: a device must not get it twice. What became of the command is read from what
//! that node stores, as far as it has arrived here. What waits here and is to go there later is the matter of `move_on`.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};

use devices::command::{CommandId, Repeat, State, asks_for, command_topic};
use serde::{Deserialize, Serialize};
use sled_data::{FollowedCommit, OriginId};

use super::called_elsewhere;
use super::down::{VERSION_BELOW, VERSION_GATEWAYS, VERSION_HANDED_ON, VERSION_THROUGH, is_at_site, site_of};
use super::offered;
use super::record::{self, COMMANDS_TREE};
use super::submit::{NewCommand, SubmitError, Submitted};
use super::{CommandInfo, Commands, Entry};
use crate::event_log::{Committed, Observer};
use crate::sessions::Whereabouts;

/// Submissions to other nodes that are remembered until what those have stored arrives; beyond that the oldest go.
const HANDED_OVER_MAX: usize = 1_000;
/// The version byte before a request and before an answer.
const VERSION: u8 = 1;

/// Why another node has given no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// It was not asked: nothing of the request has left this node.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// It was asked, and may have done what was asked for.
    #[error("it has not answered: {0}")]
    Unanswered(String),
}

/// What comes of asking another node.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, ForwardError>> + Send + 'a>>;

/// The way to other nodes of the site; what it brings there goes to [`Commands::take_forwarded`].
pub trait Forward: Send + Sync {
    /// Asks the node that writes a life. It ends within a bounded time.
    fn submit(&self, origin: OriginId, request: Vec<u8>) -> Answering<'_>;

    /// The same where that node asks somebody else in turn, over a line that may be thin.
    fn submit_and_wait(&self, origin: OriginId, request: Vec<u8>) -> Answering<'_> {
        self.submit(origin, request)
    }
}

/// A submission, as it is handed over. Frozen: another shape is another version.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RequestV1 {
    id: [u8; 16],
    device: String,
    name: String,
    payload: Vec<u8>,
    deliver_within_ms: Option<u64>,
    execution_timeout_ms: Option<u64>,
    urgent: bool,
    supersede: Option<String>,
    idempotency_key: Option<String>,
    never_repeat: bool,
    deliveries_max: Option<u32>,
    issued_by: String,
}

/// What the other node says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum AnswerV1 {
    /// It is the issuer.
    Taken { id: [u8; 16], is_new: bool },
    /// The device is not there any more; nothing was taken.
    NotHere,
    /// It was refused.
    Refused { code: String, text: String },
}

/// Commands that other nodes have taken, as they were then.
#[derive(Default)]
pub(super) struct HandedOver {
    entries: HashMap<CommandId, Entry>,
    order: VecDeque<CommandId>,
}

impl HandedOver {
    fn insert(&mut self, entry: Entry) {
        let id = entry.id;
        if self.entries.insert(id, entry).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > HANDED_OVER_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
    }
}

impl Commands {
    /// Gives it the way to other nodes; to be called before the task runs. Without it all commands stay here.
    pub fn set_forward(self: &Arc<Self>, forward: Arc<dyn Forward>) {
        let _ = self.forward.set(forward);
        self.log.observe(Arc::new(Onlooker(Arc::downgrade(self))));
    }

    /// Where a device's commands are to go: here, where some session takes them; to another node, where the device is
    /// connected there; nowhere, so that they wait here.
    pub fn where_to(&self, device: &str, name: &str) -> Whereabouts {
        if let Some(site) = site_of(device) {
            return if self.gateway_of(site).is_some() { Whereabouts::Here } else { Whereabouts::Nowhere };
        }
        let topic = command_topic(device, CommandId::from_bytes([0; 16]), name);
        if self.sessions.find_receiver(&topic, |filter| asks_for(filter, &topic)).is_some() {
            return Whereabouts::Here;
        }
        self.sessions.whereabouts(device)
    }

    /// Hands a submission over where its device is at another node; `None`: it is for this one.
    pub(super) async fn forwarded(
        &self,
        id: CommandId,
        command: &NewCommand,
    ) -> Option<Result<Submitted, SubmitError>> {
        let forward = self.forward.get()?;
        // A command that is sent again belongs to the one that it is sent for.
        if command.redrives.is_some() || self.has_key(command) {
            return None;
        }
        let others = match self.where_to(&command.device, &command.name) {
            Whereabouts::At(origin) => vec![origin],
            // Which node a site's link leads to is known to that one alone.
            Whereabouts::Nowhere if is_at_site(&command.device) => self.log.others(),
            Whereabouts::Here | Whereabouts::Nowhere => return None,
        };
        for origin in others {
            if let Some(forwarded) = self.forward_to(&**forward, origin, id, command).await {
                return Some(forwarded);
            }
        }
        None
    }

    async fn forward_to(
        &self,
        forward: &dyn Forward,
        origin: OriginId,
        id: CommandId,
        command: &NewCommand,
    ) -> Option<Result<Submitted, SubmitError>> {
        let answer = match forward.submit(origin, encode(&request(id, command))).await {
            Ok(answer) => answer,
            Err(error @ ForwardError::Unreachable(_)) => {
                tracing::debug!(device = command.device, %origin, %error, "a command waits here for its device");
                return None;
            }
            Err(error) => return Some(Err(SubmitError::Unanswered { id, origin, why: error.to_string() })),
        };
        match decode(&answer) {
            Some(AnswerV1::Taken { id, is_new }) => {
                let id = CommandId::from_bytes(id);
                self.remember(id, command.clone());
                Some(Ok(Submitted { id, is_new }))
            }
            Some(AnswerV1::NotHere) => None,
            Some(AnswerV1::Refused { code, text }) => Some(Err(SubmitError::Elsewhere { origin, code, text })),
            None => {
                let why = match answer.is_empty() {
                    true => "its store failed meanwhile, and it does not know",
                    false => "its answer cannot be read",
                };
                Some(Err(SubmitError::Unanswered { id, origin, why: why.to_owned() }))
            }
        }
    }

    fn has_key(&self, command: &NewCommand) -> bool {
        let known = |key: &String| self.table.lock().by_key(key).is_some() || self.submitting.lock().contains_key(key);
        command.idempotency_key.as_ref().is_some_and(known)
    }

    fn remember(&self, id: CommandId, command: NewCommand) {
        let now = self.now();
        let (device, queued) = command.queued(now.wall);
        let deliver_by = now.steady + queued.deliver_by_ms.saturating_sub(now.wall);
        self.handed_over.lock().insert(Entry::new(&device, id, now.wall, queued, deliver_by));
    }

    /// Takes a submission that another node hands over, and says what became of it; durable where it was taken. The same
    /// request again is the same command.
    pub async fn take_forwarded(self: &Arc<Self>, request: &[u8]) -> Vec<u8> {
        match request.first() {
            Some(&VERSION_BELOW) => return self.ended_below_elsewhere(request).await,
            Some(&VERSION_GATEWAYS) => return self.tell_gateways(),
            Some(&VERSION_THROUGH) => return self.ask_for_another(request).await,
            Some(&VERSION_HANDED_ON) => return self.take_handed_on(request),
            Some(&called_elsewhere::VERSION) => return self.cancel_for_another(request).await,
            Some(&offered::VERSION) => return self.take_moved(request).await,
            _ => {}
        }
        let answer = match decode::<RequestV1>(request) {
            Some(request) => self.take_request(request).await,
            None => Some(AnswerV1::Refused {
                code: "bad-request".to_owned(),
                text: "the node knows no such request; bring all nodes of the site to one release".to_owned(),
            }),
        };
        answer.as_ref().map_or_else(Vec::new, encode)
    }

    /// `None`: it is not known here whether the command was taken, and so nothing can be said of it.
    async fn take_request(self: &Arc<Self>, request: RequestV1) -> Option<AnswerV1> {
        let id = CommandId::from_bytes(request.id);
        if self.get_own(id).is_some() {
            return Some(AnswerV1::Taken { id: request.id, is_new: false });
        }
        if self.where_to(&request.device, &request.name) != Whereabouts::Here {
            return Some(AnswerV1::NotHere);
        }
        let room = Arc::clone(self);
        // Once begun it goes on although the connection goes away.
        let submitted = tokio::spawn(async move { room.submit_here(id, command(request)).await });
        match submitted.await.unwrap_or(Err(SubmitError::Lost)) {
            Ok(Submitted { id, is_new }) => Some(AnswerV1::Taken { id: *id.as_bytes(), is_new }),
            Err(error) if error.may_be_taken() => {
                tracing::warn!(%id, %error, "a command of another node");
                None
            }
            Err(error) => Some(AnswerV1::Refused { code: error.code().to_owned(), text: error.to_string() }),
        }
    }

    /// What other nodes have stored of a command: of several, the one that has it, or had it last.
    pub(super) fn stored_elsewhere(&self, id: CommandId) -> Option<Entry> {
        let stored = self.log.others().into_iter().filter_map(|origin| {
            let stored = self.log.store().state_get_of(origin, COMMANDS_TREE, id.as_bytes());
            Some((origin, record::decode(id.as_bytes(), &stored.ok().flatten()?)?))
        });
        stored.max_by_key(|(origin, entry)| (entry.term, *origin)).map(|(_, entry)| entry)
    }

    /// A command that has ended here, as another node shows it; `None` where this node's word counts.
    pub(super) fn outranks(&self, id: CommandId, claim: Claim) -> Option<CommandInfo> {
        self.forward.get()?;
        let stored = self.stored_elsewhere(id).filter(|stored| is_outranked(claim, stored))?;
        Some(CommandInfo::at(&stored, self.now()))
    }

    /// A command of another node, which has it under this term or a higher one: as that has stored it, else as it was handed over.
    pub(super) fn get_elsewhere(&self, id: CommandId, term: u64) -> Option<CommandInfo> {
        let stored = self.stored_elsewhere(id).filter(|stored| stored.term >= term);
        let now = self.now();
        if let Some(entry) = stored {
            return Some(CommandInfo::at(&entry, now));
        }
        self.handed_over.lock().entries.get(&id).map(|entry| CommandInfo::at(entry, now))
    }
}

/// What a node says of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Where it is.
    pub state: State,
    /// The term under which the node has it, or had it last.
    pub term: u64,
    /// Whether another node has it.
    pub is_away: bool,
}

impl From<&Entry> for Claim {
    fn from(entry: &Entry) -> Self {
        Self { state: entry.progress.state(), term: entry.term, is_away: entry.away.is_some() }
    }
}

/// Whether readers are shown a command as another node has stored it, and not as this one has it (pure): of two that say how it ended the one
/// of the higher term counts; of one that was handed over the other one says all.
pub fn is_outranked(own: Claim, other: &Entry) -> bool {
    let there = other.progress.state();
    match own.state.is_outcome() {
        true => there.is_outcome() && there != own.state && other.term > own.term,
        false => own.is_away,
    }
}

fn request(id: CommandId, command: &NewCommand) -> RequestV1 {
    let command = command.clone();
    RequestV1 {
        id: *id.as_bytes(),
        device: command.device,
        name: command.name,
        payload: command.payload,
        deliver_within_ms: command.deliver_within_ms,
        execution_timeout_ms: command.execution_timeout_ms,
        urgent: command.urgent,
        supersede: command.supersede,
        idempotency_key: command.idempotency_key,
        never_repeat: command.repeat == Repeat::Never,
        deliveries_max: command.deliveries_max,
        issued_by: command.issued_by,
    }
}

/// Whether the device is known was judged where it was submitted.
fn command(request: RequestV1) -> NewCommand {
    NewCommand {
        device: request.device,
        name: request.name,
        payload: request.payload,
        deliver_within_ms: request.deliver_within_ms,
        execution_timeout_ms: request.execution_timeout_ms,
        urgent: request.urgent,
        supersede: request.supersede,
        idempotency_key: request.idempotency_key,
        repeat: if request.never_repeat { Repeat::Never } else { Repeat::Safe },
        deliveries_max: request.deliveries_max,
        allow_unknown: true,
        issued_by: request.issued_by,
        redrives: None,
    }
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![VERSION]).unwrap_or_default()
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    match bytes.split_first()? {
        (&VERSION, body) => postcard::from_bytes(body).ok(),
        _ => None,
    }
}

/// Whether an answer says that nothing was taken.
pub(super) fn is_refusal(answer: &[u8]) -> bool {
    matches!(decode(answer), Some(AnswerV1::Refused { .. }))
}

/// Tells those who wait for a command of another node that it has changed.
struct Onlooker(Weak<Commands>);

impl Observer for Onlooker {
    fn committed(&self, _: &Arc<Committed>) {}

    fn is_listening(&self) -> bool {
        false
    }

    fn followed(&self, commits: &[FollowedCommit]) {
        let mut written = commits.iter().flat_map(|commit| &commit.record.state);
        if written.any(|write| write.tree == COMMANDS_TREE)
            && let Some(room) = self.0.upgrade()
        {
            room.changed.send_modify(|count| *count += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_have_these_bytes() {
        let id = CommandId::from_bytes([7; 16]);
        let command = NewCommand {
            payload: vec![9],
            deliver_within_ms: Some(5),
            repeat: Repeat::Never,
            ..NewCommand::new("d", "n", "c")
        };
        let sent = request(id, &command);
        let golden = [&[1][..], &[7; 16], b"\x01d\x01n\x01\x09\x01\x05\x00\x00\x00\x00\x01\x00\x01c"].concat();
        assert_eq!(encode(&sent), golden);
        assert_eq!(decode(&golden), Some(sent));
        let taken = AnswerV1::Taken { id: [7; 16], is_new: true };
        assert_eq!(encode(&taken), [&[1, 0][..], &[7; 16], &[1]].concat());
        assert_eq!(encode(&AnswerV1::NotHere), [1, 1]);
        let refused = AnswerV1::Refused { code: "x".into(), text: "y".into() };
        assert_eq!(encode(&refused), b"\x01\x02\x01x\x01y");
        assert_eq!(decode::<AnswerV1>(&[2, 1]), None);
    }
}
