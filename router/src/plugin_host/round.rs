//! One round of a plugin: what is new in its topics, through the sandbox, into
//! one commit.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use sled_data::{Offset, PartitionId};

use super::batch::{Batch, EventRef};
use super::counters::{PluginCounters, add};
use super::fault::Fault;
use super::manifest::Manifest;
use super::prepare::{Counts, DEAD_LETTERS_TOPIC, Prepared, prepare};
use super::registry::{STATE_TREE, state_key};
use super::run::run;
use super::sandbox::Sandbox;
use crate::event_log::{self, EventLog, NO_HEADERS, NewEvent, Topic};

/// Bytes read from one partition in a round, about.
const READ_BYTES_MAX: usize = 512 << 10;
/// Bytes read in a round, about.
const ROUND_READ_BYTES_MAX: usize = 2 << 20;
/// Bytes of events given to the guest at once, unless one event is larger.
const CALL_BYTES_MAX: usize = 1 << 20;
/// Bytes of output and state after which a round is committed.
const ROUND_OUTPUT_BYTES_MAX: usize = 8 << 20;
/// Time after which a round is committed, between two batches.
const ROUND_TIME_MAX: Duration = Duration::from_millis(50);
/// How dead letters are kept.
const DEAD_LETTERS_BYTES_MAX: u64 = 64 << 20;

/// The name under which a plugin's cursors are kept.
pub fn reader_name(plugin: &str) -> String {
    format!("plugin:{plugin}")
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
    /// The next offset of each partition that was looked at.
    positions: HashMap<PartitionId, Offset>,
    /// Which partition is read first, so that none is starved.
    turn: usize,
}

/// Events of one partition.
struct Read {
    topic: Arc<Topic>,
    id: PartitionId,
    from: Offset,
    batches: Vec<event_log::Batch>,
}

/// The same, as the guest is to see it.
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
    /// Begins where the cursors stand.
    pub fn new(log: Arc<EventLog>, manifest: Arc<Manifest>) -> PluginReader {
        PluginReader { reader: reader_name(&manifest.name), log, manifest, positions: HashMap::new(), turn: 0 }
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

    /// Reads what is new, a bounded amount.
    fn gather(&mut self) -> Result<Vec<Read>, Fault> {
        let topics: Vec<Arc<Topic>> = self.manifest.topics.iter().filter_map(|name| self.log.topic(name)).collect();
        let mut partitions: Vec<(&Arc<Topic>, PartitionId)> =
            topics.iter().flat_map(|topic| topic.all_partitions().iter().map(move |p| (topic, p.id()))).collect();
        if !partitions.is_empty() {
            self.turn = (self.turn + 1) % partitions.len();
            partitions.rotate_left(self.turn);
        }
        let mut reads = Vec::new();
        let mut bytes = 0;
        for (topic, id) in partitions {
            let from = self.position(id)?;
            if bytes >= ROUND_READ_BYTES_MAX || self.log.visible_end(id) <= from {
                continue;
            }
            let batches = self.log.read(id, from, READ_BYTES_MAX).map_err(|error| Fault::Store(error.to_string()))?;
            self.tell_gap(topic, id, from, &batches);
            bytes += batches.iter().map(event_log::Batch::record_bytes).sum::<usize>();
            if !batches.is_empty() {
                reads.push(Read { topic: Arc::clone(topic), id, from, batches });
            }
        }
        Ok(reads)
    }

    fn position(&mut self, id: PartitionId) -> Result<Offset, Fault> {
        if let Some(position) = self.positions.get(&id) {
            return Ok(*position);
        }
        // A partition without a cursor came after the plugin: all of it is new.
        let cursor = self.log.cursor(&self.reader, id).map_err(|error| Fault::Store(error.to_string()))?;
        let position = cursor.unwrap_or_else(|| self.log.start_offset(id));
        self.positions.insert(id, position);
        Ok(position)
    }

    /// Says what retention took before the plugin could read it.
    fn tell_gap(&mut self, topic: &Topic, id: PartitionId, from: Offset, batches: &[event_log::Batch]) {
        let first = batches.first().map_or_else(|| self.log.start_offset(id), event_log::Batch::base_offset);
        if first > from {
            let plugin = self.manifest.name.as_str();
            tracing::warn!(
                plugin,
                topic = topic.name(),
                partition = id.index,
                from,
                to = first,
                "events were removed by retention before the plugin read them"
            );
            self.positions.insert(id, first);
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
            for ((partition, key), value) in sandbox.state().lock().accepted() {
                open.put_state(STATE_TREE, &state_key(&self.manifest.name, *partition, key), value.as_deref());
            }
            for (id, next) in &done.moves {
                open.move_cursor(&self.reader, *id, *next);
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

impl Read {
    fn events(&self) -> Vec<EventRef<'_>> {
        let events = self.batches.iter().flat_map(|batch| batch.events_from(self.from));
        events
            .map(|(offset, record)| EventRef {
                offset,
                timestamp_ms: record.timestamp_ms,
                key: record.key,
                value: record.value,
                headers: record.headers,
            })
            .collect()
    }

    fn next_offset(&self) -> Offset {
        self.batches.last().map_or(self.from, event_log::Batch::next_offset)
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

/// How many of the events go into one call; at least one.
fn call_length(events: &[EventRef<'_>], events_max: usize) -> usize {
    let mut bytes = 0;
    let fits = |event: &&EventRef<'_>| {
        bytes += event.bytes();
        bytes <= CALL_BYTES_MAX
    };
    events.iter().take(events_max).take_while(fits).count().max(1)
}
