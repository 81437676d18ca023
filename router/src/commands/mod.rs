//! Commands out to devices, their answers back: a reader of `_commands` and `_answers` with stored cursors.
//!
//! A command is submitted by appending its `queued` step. `decide` is the pure table of commands; `task` reads
//! what was appended, asks the table, puts steps, the table's changed entries and the moved cursors into one
//! commit, and offers commands to sessions. A restart rebuilds the table from the stored entries. `entry` is one
//! command in memory and in the store; `submit` is the way in for people.

mod config;
mod decide;
mod entry;
mod read;
mod submit;
mod task;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use devices::command::{ANSWERS_TOPIC, COMMANDS_TOPIC, Cause, CommandId, Payload, State};
use parking_lot::Mutex;
use serde::Serialize;
use sled_data::{PartitionId, ReadError as StoreError, TopicConfig};
use tokio::sync::{Notify, watch};

use crate::event_log::{EventLog, Ticket, Topic, TopicError};
use crate::sessions::{Delivery, Sessions};

pub use config::Config;
pub use decide::{AnswerError, Answered, Effect, Now, Table};
pub use entry::{COMMANDS_TREE, Entry};
pub use submit::{NewCommand, SubmitError};

/// The reader's name: whose cursors are stored.
pub const READER: &str = "commands";
/// Stored entries read at once when the table is rebuilt.
const RESTORE_ENTRIES_MAX: usize = 1_000;

/// Counters of the room.
#[derive(Debug, Default)]
pub struct Stats {
    /// Commands read from the log.
    pub queued: AtomicU64,
    /// Commands handed to a session.
    pub offered: AtomicU64,
    /// Commands that came back unconfirmed.
    pub returned: AtomicU64,
    /// Commands whose receipt was confirmed.
    pub delivered: AtomicU64,
    /// Commands that succeeded.
    pub succeeded: AtomicU64,
    /// Commands that failed or were rejected by the device.
    pub failed: AtomicU64,
    /// Commands that expired, timed out, or whose end is unknown.
    pub expired: AtomicU64,
    /// Commands that found no room.
    pub refused: AtomicU64,
    /// Answers that did not count.
    pub answers_refused: AtomicU64,
    /// Events on the two topics that could not be read.
    pub unreadable: AtomicU64,
    /// Times that the table was rebuilt because a commit failed.
    pub rebuilt: AtomicU64,
}

/// A command as the API and the CLI show it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CommandInfo {
    /// Its id.
    pub id: CommandId,
    /// The device that it is for.
    pub device: String,
    /// What to do.
    pub name: String,
    /// What it is to be done with.
    #[serde(flatten)]
    pub payload: Payload,
    /// Where it is.
    pub state: State,
    /// Who sent it.
    pub issued_by: String,
    /// When it was submitted, in milliseconds since 1970.
    pub at_ms: u64,
    /// Until when it must be delivered, in milliseconds since 1970.
    pub deliver_by_ms: u64,
    /// How often it was handed to a session.
    pub attempts: u32,
    /// What the device answered last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Payload>,
    /// What made a plugin send it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
}

impl From<&Entry> for CommandInfo {
    fn from(entry: &Entry) -> Self {
        Self {
            id: entry.id,
            device: entry.device.to_string(),
            name: entry.queued.name.clone(),
            payload: entry.queued.payload.clone(),
            state: entry.progress.state(),
            issued_by: entry.queued.issued_by.clone(),
            at_ms: entry.at_ms,
            deliver_by_ms: entry.queued.deliver_by_ms,
            attempts: entry.progress.attempts(),
            result: entry.result.clone().map(Payload),
            cause: entry.queued.cause.clone(),
        }
    }
}

/// Which commands are asked for.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this device alone.
    pub device: Option<String>,
    /// In this state alone.
    pub state: Option<State>,
    /// `true`: those that have ended; `false`: those that have not.
    pub ended: Option<bool>,
}

impl Filter {
    fn takes(&self, entry: &Entry) -> bool {
        let state = entry.progress.state();
        self.device.as_deref().is_none_or(|device| device == &*entry.device)
            && self.state.is_none_or(|wanted| wanted == state)
            && self.ended.is_none_or(|wanted| wanted == state.is_outcome())
    }
}

/// Why the room could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A topic could not be made.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// A topic's retention could not be set.
    #[error(transparent)]
    Retention(#[from] sled_data::TopicError),
    /// The stored commands or cursors could not be read.
    #[error("the stored commands cannot be read: {0}; run `edgeway store verify`")]
    Store(#[from] StoreError),
}

/// How a session fared with a command.
struct Report {
    id: CommandId,
    session: u64,
    delivery: Delivery,
}

/// What sessions have reported since the last round; at most three reports for each offer that is under way.
#[derive(Default)]
struct Reports {
    list: Mutex<Vec<Report>>,
    arrived: Notify,
}

/// What is read next.
struct Reading {
    commands: Vec<(PartitionId, u64)>,
    answers: Vec<(PartitionId, u64)>,
}

/// The commands room. [`Commands::run`] is its one task.
pub struct Commands {
    log: Arc<EventLog>,
    sessions: Arc<Sessions>,
    config: Config,
    commands: Arc<Topic>,
    answers: Arc<Topic>,
    table: Mutex<Table>,
    reading: Mutex<Reading>,
    reports: Arc<Reports>,
    /// The commit that the table's newest change is in.
    newest: Mutex<Option<Ticket>>,
    changed: watch::Sender<u64>,
    stats: Stats,
}

impl Commands {
    /// Opens the room: makes its topics and rebuilds its table.
    ///
    /// # Errors
    /// When the store cannot be read or takes no topic.
    pub fn open(log: Arc<EventLog>, sessions: Arc<Sessions>, config: Config) -> Result<Arc<Self>, OpenError> {
        let topic = TopicConfig { retention_ms: Some(config.retention_ms), ..TopicConfig::default() };
        let commands = log.ensure_topic(COMMANDS_TOPIC, Some(topic.clone()))?;
        let answers = log.ensure_topic(ANSWERS_TOPIC, Some(topic))?;
        for topic in [&commands, &answers] {
            // Whoever made it first may have set no bound; one that was set is kept.
            if topic.config().retention_ms.is_none() && topic.config().retention_bytes.is_none() {
                log.store().set_topic_retention(topic.id(), Some(config.retention_ms), None)?;
            }
        }
        let room = Self {
            table: Mutex::new(Table::new(config.clone())),
            reading: Mutex::new(Reading { commands: Vec::new(), answers: Vec::new() }),
            reports: Arc::default(),
            newest: Mutex::new(None),
            changed: watch::Sender::new(0),
            stats: Stats::default(),
            log,
            sessions,
            config,
            commands,
            answers,
        };
        room.rebuild()?;
        Ok(Arc::new(room))
    }

    /// One command, as long as it is listed.
    pub fn get(&self, id: CommandId) -> Option<CommandInfo> {
        self.table.lock().get(id).map(CommandInfo::from)
    }

    /// Commands that a filter takes, the newest first, at most `max`.
    pub fn list(&self, filter: &Filter, max: usize) -> Vec<CommandInfo> {
        let table = self.table.lock();
        let mut found: Vec<&Entry> = table.entries().filter(|entry| filter.takes(entry)).collect();
        found.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.order));
        found.into_iter().take(max).map(CommandInfo::from).collect()
    }

    /// How many commands have not ended.
    pub fn pending(&self) -> usize {
        self.table.lock().pending()
    }

    /// Waits until a command has ended, durably; `None` when it has not within the time.
    pub async fn wait(&self, id: CommandId, timeout: Duration) -> Option<CommandInfo> {
        tokio::time::timeout(timeout, self.ended(id)).await.ok()
    }

    async fn ended(&self, id: CommandId) -> CommandInfo {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let ended = self.get(id).filter(|info| info.state.is_outcome());
            let newest = *self.newest.lock();
            let is_durable = match newest {
                Some(ticket) => self.log.durable(ticket).await.is_ok(),
                None => true,
            };
            if let Some(info) = ended.filter(|_| is_durable) {
                return info;
            }
            if changed.changed().await.is_err() {
                // The room is gone; the caller's timeout ends the wait.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Counters for the metrics' face.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The table as the store has it, and the cursors with it.
    fn rebuild(&self) -> Result<(), OpenError> {
        let mut stored = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.log.state_scan(COMMANDS_TREE, &[], after.as_deref(), RESTORE_ENTRIES_MAX)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, value) in &page {
                match Entry::decode(key, value) {
                    Some(entry) => stored.push(entry),
                    None => {
                        self.stats.unreadable.fetch_add(1, Ordering::Relaxed);
                        tracing::warn!("a stored command of an unknown version is left out");
                    }
                }
            }
        }
        let commands = self.positions(&self.commands)?;
        let answers = self.positions(&self.answers)?;
        *self.table.lock() = Table::restore(self.config.clone(), stored, self.now());
        *self.reading.lock() = Reading { commands, answers };
        Ok(())
    }

    fn positions(&self, topic: &Topic) -> Result<Vec<(PartitionId, u64)>, StoreError> {
        let partitions = topic.all_partitions().iter().map(|partition| partition.id());
        partitions.map(|id| Ok((id, self.log.cursor(READER, id)?.unwrap_or(0)))).collect()
    }

    fn now(&self) -> Now {
        let clock = self.log.clock();
        Now { steady: clock.steady_ms(), wall: u64::try_from(clock.wall_ms()).unwrap_or(0) }
    }
}
