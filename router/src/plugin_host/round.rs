//! One round of a plugin: what is new in its topics, through the sandbox, into
//! one commit.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use sled_data::{Offset, PartitionId};

use super::batch::{Batch, EventRef};
use super::carry::Chunk;
use super::charge::{CHARGES_TREE, Charge, SpansV1, encode};
use super::charge_index::ChargeIndex;
use super::counters::{PluginCounters, add};
use super::duties::Duties;
use super::fault::Fault;
use super::manifest::Manifest;
use super::prepare::{Counts, DEAD_LETTERS_TOPIC, Prepared, prepare};
use super::registry::placed_key;
use super::run::run;
use super::sandbox::Sandbox;
use super::taking_up::{TakenUp, TakingUp};
use crate::event_log::{self, EventLog, NO_HEADERS, NewEvent, Topic};

/// Bytes of events given to the guest at once, unless one event is larger.
const CALL_BYTES_MAX: usize = 1 << 20;
/// Bytes of output and state after which a round is committed.
const ROUND_OUTPUT_BYTES_MAX: usize = 8 << 20;
/// Time after which a round is committed, between two batches.
const ROUND_TIME_MAX: Duration = Duration::from_millis(50);
/// How dead letters are kept.
const DEAD_LETTERS_BYTES_MAX: u64 = 64 << 20;

/// What plugins are called as readers, before their names.
pub const READER: &str = "plugin:";

/// The name under which a plugin's cursors are kept.
pub fn reader_name(plugin: &str) -> String {
    format!("{READER}{plugin}")
}

/// Makes the topic of dead letters where it is missing.
///
/// # Errors
/// The store's.
pub fn ensure_dead_letters(log: &EventLog) -> Result<Arc<Topic>, event_log::TopicError> {
    let config = sled_data::TopicConfig {
        partitions: 1,
        retention_bytes: Some(DEAD_LETTERS_BYTES_MAX),
        ..sled_data::TopicConfig::default()
    };
    log.ensure_topic(DEAD_LETTERS_TOPIC, Some(config))
}

/// A plugin as a reader of the log.
pub struct PluginReader {
    log: Arc<EventLog>,
    reader: String,
    manifest: Arc<Manifest>,
    index: Arc<ChargeIndex>,
    duties: Arc<Duties>,
    /// What became of the duties; `None` while they are to be taken up.
    taken: Option<TakenUp>,
    /// The next offset of each partition that was looked at.
    positions: HashMap<PartitionId, Offset>,
    /// What is to be recorded of partitions that came after their charge was begun, with the first move in them.
    unrecorded: HashMap<PartitionId, (Charge, SpansV1)>,
    /// Which partition is read first, so that none is starved.
    turn: usize,
}

/// What was read of a partition, as the guest is to see it.
struct Work<'a> {
    read: &'a Read,
    events: Vec<EventRef<'a>>,
}

/// What a round has done so far.
#[derive(Default)]
struct Done<'a> {
    prepared: Vec<Prepared<'a>>,
    moves: Vec<(PartitionId, Offset)>,
    output_bytes: usize,
    counts: Counts,
}

impl PluginReader {
    /// Begins where the cursors stand, with the duties of a node that is alone.
    pub fn new(log: Arc<EventLog>, manifest: Arc<Manifest>, index: Arc<ChargeIndex>) -> PluginReader {
        PluginReader {
            reader: reader_name(&manifest.name),
            log,
            manifest,
            index,
            duties: Arc::new(Duties::alone()),
            taken: None,
            positions: HashMap::new(),
            unrecorded: HashMap::new(),
            turn: 0,
        }
    }

    /// Takes up these duties before the next round.
    pub fn set_duties(&mut self, duties: &Arc<Duties>) {
        if !Arc::ptr_eq(&self.duties, duties) {
            self.duties = Arc::clone(duties);
            self.taken = None;
        }
    }

    /// Whether nothing is read for now.
    pub fn is_paused(&self) -> bool {
        self.duties.is_paused
    }

    /// Ends and begins charges as the duties say, where that is still to be done.
    fn take_up(&mut self) -> Result<(), Fault> {
        if self.taken.as_ref().is_some_and(|taken| taken.waiting.is_empty()) {
            return Ok(());
        }
        let (log, index, manifest, duties) = (&self.log, &*self.index, &*self.manifest, &*self.duties);
        let taken = TakingUp { log, index, manifest, duties }.run(&mut |chunk| {
            store_chunk(log, &self.reader, &chunk)?;
            index.refresh();
            Ok(())
        })?;
        if self.taken.as_ref() != Some(&taken) {
            self.positions.clear();
            self.unrecorded.clear();
        }
        self.taken = Some(taken);
        Ok(())
    }

    /// Processes what is new; false when there was nothing.
    ///
    /// # Errors
    /// Faults that no event caused; nothing was done then, and the sandbox is
    /// as after its start.
    pub fn round(
        &mut self,
        sandbox: &mut Sandbox,
        counters: &PluginCounters,
        stop: &AtomicBool,
    ) -> Result<bool, Fault> {
        if self.duties.is_paused {
            return Ok(false);
        }
        self.take_up()?;
        let reads = self.gather()?;
        if reads.is_empty() {
            return Ok(false);
        }
        let work: Vec<Work<'_>> = reads.iter().map(|read| Work { read, events: read.events() }).collect();
        let done = self.process(&work, sandbox, counters, stop);
        let stored = done.and_then(|done| {
            self.commit(&done, sandbox)?;
            Ok((done.counts, done.moves))
        });
        match stored {
            Ok((counts, moves)) => {
                sandbox.state().lock().clear();
                if moves.iter().any(|(id, _)| self.unrecorded.remove(id).is_some()) {
                    self.index.refresh();
                }
                self.positions.extend(moves);
                add(&counters.appended, counts.appended);
                add(&counters.commands, counts.commands);
                add(&counters.dead_letters, counts.dead_letters);
                add(&counters.wishes, counts.wishes);
                add(&counters.commits, 1);
                Ok(true)
            }
            Err(fault) => {
                sandbox.discard();
                sandbox.state().lock().clear();
                Err(fault)
            }
        }
    }

    /// Gives batch after batch to the plugin, until all is done or enough.
    fn process<'a>(
        &self,
        work: &'a [Work<'a>],
        sandbox: &mut Sandbox,
        counters: &PluginCounters,
        stop: &AtomicBool,
    ) -> Result<Done<'a>, Fault> {
        let begin = Instant::now();
        let mut done = Done::default();
        for Work { read, events } in work {
            let mut rest = events.as_slice();
            while !rest.is_empty() {
                let (call, after) = rest.split_at(call_length(rest, self.manifest.limits.batch_events as usize));
                let batch = Batch {
                    topic: read.topic.name(),
                    partition: read.id.index,
                    origin: read.id.origin.0,
                    term: read.reading.term,
                    state_of: read.state_of,
                    doubt: read.doubt,
                    events: call,
                };
                let effects = run(sandbox, &batch, counters, stop)?;
                done.output_bytes += effects.bytes;
                let now_ms = sandbox.template().now_ms();
                done.counts += prepare(effects, &batch, &self.manifest.name, now_ms, &mut done.prepared);
                rest = after;
                let enough = done.output_bytes + sandbox.state().lock().accepted_bytes() > ROUND_OUTPUT_BYTES_MAX;
                if enough || begin.elapsed() > ROUND_TIME_MAX {
                    done.moves.push((read.id, rest.first().map_or_else(|| read.next_offset(), |event| event.offset)));
                    return Ok(done);
                }
            }
            done.moves.push((read.id, read.next_offset()));
        }
        Ok(done)
    }

    /// Stores all of it in one commit, and waits until that is durable.
    fn commit(&self, done: &Done<'_>, sandbox: &Sandbox) -> Result<(), Fault> {
        let topics = self.topics_of(&done.prepared)?;
        let store = |error: &dyn std::fmt::Display| Fault::Store(error.to_string());
        let largest = done.prepared.iter().map(Prepared::bytes).max().unwrap_or(0);
        let ticket = {
            let mut open = self.log.lock();
            // Nothing is refused after this, so that a part cannot stay behind.
            open.check(largest).map_err(|error| store(&error))?;
            topics.iter().try_for_each(|topic| open.check_topic(topic)).map_err(|error| store(&error))?;
            for (event, topic) in done.prepared.iter().zip(&topics) {
                let event = NewEvent {
                    timestamp_ms: event.timestamp_ms,
                    key: event.key.bytes(),
                    value: event.value.bytes(),
                    headers: &event.headers,
                    extra: &NO_HEADERS,
                    fanned_out: false,
                };
                open.append_keyed(topic, &event).map_err(|error| store(&error))?;
            }
            for ((place, key), value) in sandbox.state().lock().accepted() {
                let (tree, key) = placed_key(&self.manifest.name, *place, key);
                open.put_state(tree, &key, value.as_deref());
            }
            for (id, next) in &done.moves {
                open.move_cursor(&self.reader, *id, *next);
                if let Some((charge, spans)) = self.unrecorded.get(id) {
                    open.put_state(CHARGES_TREE, &charge.spans_key(&self.manifest.name, *id), Some(&encode(spans)));
                }
            }
            open.ticket()
        };
        self.log.durable_blocking(ticket).map_err(|error| store(&error))
    }

    /// The topic of each event, made where somebody deleted it.
    fn topics_of(&self, prepared: &[Prepared<'_>]) -> Result<Vec<Arc<Topic>>, Fault> {
        let mut known: HashMap<&str, Arc<Topic>> = HashMap::new();
        let mut topics = Vec::with_capacity(prepared.len());
        for event in prepared {
            let name = event.topic.as_str();
            if !known.contains_key(name) {
                let topic = match name {
                    DEAD_LETTERS_TOPIC => ensure_dead_letters(&self.log),
                    _ => self.log.ensure_topic(name, None),
                };
                known.insert(name, topic.map_err(|error| Fault::Store(error.to_string()))?);
            }
            topics.extend(known.get(name).cloned());
        }
        Ok(topics)
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, more: Counts) {
        self.appended += more.appended;
        self.commands += more.commands;
        self.dead_letters += more.dead_letters;
        self.wishes += more.wishes;
    }
}

/// Stores a part of what taking up duties writes; durable on return.
pub(super) fn store_chunk(log: &EventLog, reader: &str, chunk: &Chunk) -> Result<(), Fault> {
    let ticket = {
        let mut open = log.lock();
        open.check(0).map_err(|error| Fault::Store(error.to_string()))?;
        for (tree, key, value) in &chunk.writes {
            open.put_state(tree, key, value.as_deref());
        }
        for (id, next) in &chunk.cursors {
            open.move_cursor(reader, *id, *next);
        }
        open.ticket()
    };
    log.durable_blocking(ticket).map_err(|error| Fault::Store(error.to_string()))
}

/// How many of the events go into one call; at least one.
fn call_length(events: &[EventRef<'_>], events_max: usize) -> usize {
    let mut bytes = 0;
    let fits = |event: &&EventRef<'_>| {
        bytes += event.bytes();
        bytes <= CALL_BYTES_MAX
    };
    events.iter().take(events_max).take_while(fits).count().max(1)
}

mod gather;
use gather::Read;
