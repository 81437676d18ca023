//! The edge's part: commands that an upstream site gives, taken once each, and their ends told until upstream knows.

use std::collections::HashSet;
use std::sync::Arc;

use devices::command::{CommandId, DELIVER_WITHIN_MAX_MS, Repeat, State, StepEvent, Why};
use serde_json::json;

use super::super::move_on::append_step;
use super::super::table::{Ended, Now, Table};
use super::super::{Commands, NewCommand, OpenError};
use super::notes::{LIFE_KEY, NOTES_TREE, Note, NoteV1, Notes, Phase, stored};
use super::wire::{ASKED_MAX, Answer, EndedV1, GivenV1, TOLD_MAX, VERSION_CALL_OFF, cut, decode, encode};
use crate::event_log::{Act, OpenCommit, Ticket};

/// Bytes of ends that are told at once, unless one is larger: they go in one frame of the link.
const TOLD_BYTES_MAX: usize = 32 << 10;
/// Longest word of who gave a command upstream, in bytes.
const WHO_BYTES_MAX: usize = 64;

/// What an upstream site may bring down by a link, as the edge's configuration lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Commands to devices.
    pub commands: bool,
    /// That those which are urgent there are urgent here: no guard holds them.
    pub urgent: bool,
}

/// Who gives commands.
#[derive(Debug, Clone)]
pub struct Above {
    /// What the link is called here.
    pub name: String,
    /// The link, by the id that the upstream site has given it.
    pub link: u64,
    /// What it may bring down.
    pub listed: Listed,
}

/// What is to be done with one that is given.
enum Judged {
    /// Nothing, and this is said.
    Not(Answer),
    /// It is here already.
    Known,
    New(Box<New>),
}

/// One that is to be taken.
struct New {
    device: String,
    step: StepEvent,
    until_ms: u64,
}

fn refused(code: &str, text: impl Into<String>) -> Judged {
    Judged::Not(Answer::Refused { code: code.to_owned(), text: text.into() })
}

impl Commands {
    /// Reads the notes of what links have brought down.
    pub(in crate::commands) fn read_notes(&self) -> Result<(), OpenError> {
        let mut all = Vec::new();
        loop {
            let after = all.last().map(|(key, _): &(Vec<u8>, Vec<u8>)| key.as_slice());
            let page = self.log.state_scan(NOTES_TREE, &[], after, 1_000)?;
            if page.is_empty() {
                break;
            }
            all.extend(page);
        }
        let mut notes = self.down.notes.lock();
        notes.read(&all, self.log.origin().0, self.now());
        Ok(())
    }

    /// Takes commands that an upstream site gives, in one commit, or calls them off, and says of each what became of it; durable where it was
    /// taken, or has ended. The same command again is the same. Once begun it goes on although the link is cut.
    pub async fn take_from_above(self: &Arc<Self>, above: Above, request: Vec<u8>) -> Vec<u8> {
        let room = Arc::clone(self);
        let answered = tokio::spawn(async move {
            match request.first() {
                Some(&VERSION_CALL_OFF) => room.call_off_from_above(&above, &request).await,
                _ => encode(&room.take_given(&above, &request).await),
            }
        });
        answered.await.unwrap_or_default()
    }

    async fn take_given(&self, above: &Above, request: &[u8]) -> Vec<Answer> {
        let given: Vec<GivenV1> = decode(request).unwrap_or_default();
        let given = given.into_iter().take(ASKED_MAX);
        let turn = self.down.turn.lock().await;
        let now = self.now();
        let judged = given.map(|one| (one.id, one.device.clone(), self.judge_given(above, one, now)));
        let judged: Vec<_> = judged.collect();
        let ids: Vec<CommandId> = judged.iter().map(|(id, ..)| CommandId::from_bytes(*id)).collect();
        let appended = self.append_given(above, judged, now);
        drop(turn);
        let Ok((answers, ticket)) = appended else { return Vec::new() };
        let Some(ticket) = ticket else { return answers };
        let durable = self.log.durable(ticket).await;
        self.down.notes.lock().settle(&ids, ticket);
        if let Err(error) = durable {
            tracing::warn!(link = above.name, %error, "commands from upstream could not be taken; it asks again");
            if let Err(error) = self.read_notes() {
                tracing::error!(%error, "the notes of commands from upstream cannot be read");
            }
            return Vec::new();
        }
        answers
    }

    fn judge_given(&self, above: &Above, given: GivenV1, now: Now) -> Judged {
        let id = CommandId::from_bytes(given.id);
        // Whoever asked before may have been answered by a store that is no more.
        let is_set_back = {
            let notes = self.down.notes.lock();
            match notes.get(id) {
                Some(note) if note.link == above.link => return Judged::Known,
                Some(_) => return refused("other-link", "another link has brought a command of this id"),
                None => given.asked_ms.is_some_and(|ms| notes.began_within(ms, now)),
            }
        };
        if !above.listed.commands {
            let text =
                format!("link {} brings no commands down: `down` of its [[link]] at the edge lists none", above.name);
            return refused("not-listed", text);
        }
        if self.get_own(id).is_some() {
            return refused("known-id", "a command of this id was given at the edge itself");
        }
        if is_set_back && (given.never_repeat || given.left_ms == 0) {
            return Judged::Not(Answer::Lost);
        }
        if given.left_ms == 0 {
            return Judged::Not(Answer::TooLate);
        }
        let (age_ms, left_ms) = (given.age_ms, given.left_ms.min(DELIVER_WITHIN_MAX_MS));
        let command = command(above, given);
        if let Err(error) = command.check() {
            return refused(error.code(), error.to_string());
        }
        if !self.knows(&command.device, &command.name) {
            let text = format!(
                "device {:?} was never seen there, is not set, and no session takes its commands",
                command.device
            );
            return refused("unknown-device", text);
        }
        let bytes = command.device.len() + command.name.len() + command.payload.len();
        if !self.table.lock().would_take(&command.device, bytes, command.urgent) {
            return refused("too-many-commands", "too many commands are pending there, in all or for this device");
        }
        let (device, mut queued) = command.queued(now.wall);
        queued.deliver_by_ms = now.wall.saturating_add(left_ms);
        let until_ms = queued.deliver_by_ms;
        let step = StepEvent::queued(id, now.wall.saturating_sub(age_ms), queued);
        Judged::New(Box::new(New { device, step, until_ms }))
    }

    /// Appends what is new, all or none, with the notes and the acts; the commit that is to be waited for. `Err` where nothing
    /// can be appended now.
    fn append_given(
        &self,
        above: &Above,
        judged: Vec<([u8; 16], String, Judged)>,
        now: Now,
    ) -> Result<(Vec<Answer>, Option<Ticket>), ()> {
        let mut answers = Vec::with_capacity(judged.len());
        let mut wait_for: Option<Ticket> = None;
        let who = format!("link:{}", above.name);
        let is_new = |(_, _, judged): &([u8; 16], String, Judged)| matches!(judged, Judged::New(_));
        let mut open = self.log.lock();
        let mut notes = self.down.notes.lock();
        if judged.iter().any(is_new) {
            let largest = judged.iter().map(|(_, device, judged)| match judged {
                Judged::New(new) => device.len() + new.step.encode().len(),
                _ => 0,
            });
            open.check(largest.max().unwrap_or(0)).map_err(drop)?;
            let wanted = judged.iter().filter(|one| is_new(one)).count();
            let asked: HashSet<[u8; 16]> = judged.iter().map(|(id, ..)| *id).collect();
            self.make_place(&mut open, &mut notes, (above.link, wanted, &asked), now);
        }
        for (id, device, judged) in judged {
            let id = CommandId::from_bytes(id);
            let answer = match judged {
                Judged::Not(answer) => answer,
                Judged::Known => self.known_here(&mut open, &mut notes, id, &mut wait_for),
                // The same question may have come twice.
                Judged::New(_) if notes.get(id).is_some() => self.known_here(&mut open, &mut notes, id, &mut wait_for),
                Judged::New(_) if notes.places(above.link) == 0 => Answer::Refused {
                    code: "too-many-commands".to_owned(),
                    text: "the edge has as many commands of this link as it may".to_owned(),
                },
                Judged::New(new) => {
                    append_step(&mut open, &self.commands, &new.device, &new.step).map_err(drop)?;
                    let note = NoteV1 { link: above.link, until_ms: new.until_ms, ended: None, is_known: false };
                    open.put_state(NOTES_TREE, id.as_bytes(), Some(&stored(&note)));
                    if let Some(life) = notes.life_to_store(now) {
                        open.put_state(NOTES_TREE, LIFE_KEY, Some(&encode(&life)));
                    }
                    let ticket = Some(open.ticket());
                    notes.take(id, Note::new(above.link, new.until_ms, Phase::Open, ticket));
                    self.down.changed.lock().add(above.link, id);
                    wait_for = wait_for.max(ticket);
                    act(&mut open, &who, &device, "taken", id)?;
                    Answer::Taken
                }
            };
            if let Answer::Refused { code, .. } = &answer
                && notes.may_write(above.link, now.steady)
            {
                // A log that is full has refused all; what is refused is told upstream as well.
                let _ = act(&mut open, &who, &device, code, id);
            }
            answers.push(answer);
        }
        Ok((answers, wait_for))
    }

    /// One that is here already. Upstream may have been set back since it knew the end: it is told again.
    fn known_here(
        &self,
        open: &mut OpenCommit<'_>,
        notes: &mut Notes,
        id: CommandId,
        wait_for: &mut Option<Ticket>,
    ) -> Answer {
        if let Some(note) = notes.get(id) {
            *wait_for = (*wait_for).max(note.ticket);
            if note.phase == Phase::Known
                && let Some(known) = self.stored_note(id)
            {
                open.put_state(NOTES_TREE, id.as_bytes(), Some(&stored(&NoteV1 { is_known: false, ..known })));
                notes.put(id, Note { phase: Phase::Ended, ticket: Some(open.ticket()), ..note });
            }
        }
        Answer::Taken
    }

    /// Makes room for so many commands of a link, where there is too little. What the same question asks about stays.
    fn make_place(
        &self,
        open: &mut OpenCommit<'_>,
        notes: &mut Notes,
        (link, wanted, asked): (u64, usize, &HashSet<[u8; 16]>),
        now: Now,
    ) {
        if notes.places(link) >= wanted {
            return;
        }
        let is_asked = |id: CommandId| asked.contains(id.as_bytes());
        let mut forget = |notes: &mut Notes, gone: Vec<CommandId>| {
            for id in gone {
                open.put_state(NOTES_TREE, id.as_bytes(), None);
                notes.remove(id);
            }
        };
        let over = notes.over(now.wall).into_iter().filter(|id| !is_asked(*id)).collect();
        forget(notes, over);
        let surplus = notes.surplus(link, wanted, is_asked);
        forget(notes, surplus);
    }

    pub(super) fn stored_note(&self, id: CommandId) -> Option<NoteV1> {
        let stored = self.log.state_get(NOTES_TREE, id.as_bytes()).ok().flatten()?;
        decode(&stored)
    }

    /// Notes in the open commit how a command ended that a link has brought down.
    pub(in crate::commands) fn note_end(&self, open: &mut OpenCommit<'_>, table: &Table, ended: &Ended) {
        let mut notes = self.down.notes.lock();
        let Some(note) = notes.get(ended.id).filter(|note| note.phase == Phase::Open) else { return };
        let entry = table.get(ended.id);
        let why = entry.and_then(|entry| entry.why.as_deref().cloned()).or(ended.code.map(Why::code));
        let is_said = matches!(ended.outcome, State::Succeeded | State::Failed | State::Rejected);
        let answer = entry.and_then(|entry| entry.result.as_deref()).filter(|_| is_said);
        let end = EndedV1::new(ended.id, ended.outcome, why.as_ref(), answer);
        let note_v1 = NoteV1 { link: note.link, until_ms: note.until_ms, ended: Some(end), is_known: false };
        open.put_state(NOTES_TREE, ended.id.as_bytes(), Some(&stored(&note_v1)));
        notes.put(ended.id, Note { phase: Phase::Ended, ticket: Some(open.ticket()), ..note });
    }

    /// Whether upstream of a link is to be told how commands have ended.
    pub fn has_ended_from_above(&self, link: u64) -> bool {
        self.down.notes.lock().has_ended(link)
    }

    /// What upstream of a link is to be told of commands that have ended, durably, behind a place among them, and the place of
    /// the last one; `None` where there is nothing. They are told again until it says that it knows.
    pub async fn ended_from_above(&self, link: u64, after: u64) -> Option<(Vec<u8>, u64)> {
        let ended = self.down.notes.lock().ended(link, after, TOLD_MAX);
        if let Some(ticket) = ended.iter().filter_map(|(_, note)| note.ticket).max() {
            self.log.durable(ticket).await.ok()?;
        }
        let (mut told, mut bytes, mut last) = (Vec::new(), 0, None);
        for (id, note) in ended {
            if let Some(end) = self.stored_note(id).and_then(|note| note.ended) {
                bytes += encode(&end).len();
                if bytes > TOLD_BYTES_MAX && !told.is_empty() {
                    break;
                }
                told.push(end);
            }
            last = Some(note.place);
        }
        Some((encode(&told), last?))
    }

    /// Upstream of a link knows how these commands ended.
    pub fn known_above(&self, link: u64, request: &[u8]) {
        let ids: Vec<[u8; 16]> = decode(request).unwrap_or_default();
        let known: Vec<_> = ids.into_iter().take(TOLD_MAX).map(CommandId::from_bytes).collect();
        let known: Vec<_> = known.into_iter().filter_map(|id| Some((id, self.stored_note(id)?))).collect();
        let mut open = self.log.lock();
        if open.check(0).is_err() {
            return;
        }
        let mut notes = self.down.notes.lock();
        for (id, known) in known {
            let Some(note) = notes.get(id).filter(|note| note.link == link && note.phase == Phase::Ended) else {
                continue;
            };
            if known.ended.is_some() {
                open.put_state(NOTES_TREE, id.as_bytes(), Some(&stored(&NoteV1 { is_known: true, ..known })));
                notes.put(id, Note { phase: Phase::Known, ticket: None, ..note });
            }
        }
    }
}

/// Writes down what became of a command that a link has brought.
fn act(open: &mut OpenCommit<'_>, who: &str, device: &str, outcome: &str, id: CommandId) -> Result<(), ()> {
    let act = Act { who, act: "command.take", what: device, outcome, detail: json!({ "id": id.to_string() }) };
    open.audit(act).map_err(drop)
}

/// The command as it is given here. Its keys are upstream's, but for the one that says what it supersedes.
fn command(above: &Above, given: GivenV1) -> NewCommand {
    NewCommand {
        device: given.device,
        name: given.name,
        payload: given.payload,
        // What is left of it is put in its place.
        deliver_within_ms: None,
        execution_timeout_ms: Some(given.execution_timeout_ms),
        urgent: given.urgent && above.listed.urgent,
        supersede: given.supersede,
        idempotency_key: None,
        repeat: if given.never_repeat { Repeat::Never } else { Repeat::Safe },
        deliveries_max: given.deliveries_max,
        allow_unknown: false,
        issued_by: who(above, given.issued_by),
        redrives: None,
    }
}

/// Who does something here at the word of somebody upstream.
pub(super) fn who(above: &Above, there: String) -> String {
    let mut who: String = there.chars().filter(|c| !c.is_control()).collect();
    cut(&mut who, WHO_BYTES_MAX);
    format!("link:{}/{who}", above.name)
}
