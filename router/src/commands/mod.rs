//! Commands out to devices, their answers back: a reader of `_commands` and `_answers` with stored cursors.
//!
//! A command is submitted by appending its `queued` step. `table` is the pure table of commands; `task` goes
//! round: `round` reads what was appended (`read`) and what came by `mail`, and asks the table; `write` puts its steps
//! into one commit, and when that is durable `offers` go to sessions. A restart takes the commands as they were last
//! stored (`record`, `unstored`), and `restore` replays the steps that follow in the log. `entry` is one command in
//! memory, `info` one as it is shown; `submit` and `call_off` are the ways in for people, `called_elsewhere` is what
//! nodes say of a call-off, `guards` asks the guards.
//!
//! Between nodes `forward` hands a submission over to the node that the device is connected to, and `move_on` what waits
//! here. `offered` judges what others hand over: it is `taking` while its first step is on its way into the log, or
//! `declined`. `others` reads what becomes of it there. `take_up` takes what a lost node has left, `taken_up` knows how
//! far; `standing` waits after a restart until it is known what others have taken.
//!
//! `down` is about devices of linked sites. `jobs` sends one command to many devices.

mod call_off;
mod called_elsewhere;
mod config;
mod declined;
mod down;
mod entry;
mod forward;
mod guards;
mod info;
mod jobs;
mod mail;
mod move_on;
mod offered;
mod offers;
mod others;
mod read;
pub mod record;
mod restore;
mod round;
mod standing;
mod stats;
mod submit;
mod table;
mod take_up;
mod taken_up;
mod taking;
mod task;
pub mod unstored;
mod write;

#[cfg(test)]
mod clock_tests;
#[cfg(test)]
mod forward_tests;
#[cfg(test)]
mod life_tests;
#[cfg(test)]
mod site_tests;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use devices::command::{ANSWERS_TOPIC, COMMANDS_TOPIC, CommandId};
use parking_lot::Mutex;
use sled_data::{OriginId, PartitionId, ReadError as StoreError, TopicConfig};
use tokio::sync::watch;

use crate::directory::Directory;
use crate::event_log::{self, AUDIT_TOPIC, EventLog, Ticket, Topic, TopicError};
use crate::security::{Guard, GuardSlot};
use crate::sessions::Sessions;

pub use call_off::{CallOffError, RedriveError};
pub use config::{Config, Overflow};
pub use down::{Above, DownWay, Listed, NOTES_TREE, SITES_TREE};
pub use entry::{Away, Entry};
pub use forward::{Answering, Claim, Forward, ForwardError, is_outranked};
pub use info::{AtSite, CommandInfo, Filter};
pub use jobs::{
    AbortAbove, JOBS_TOPIC, JOBS_TREE, JobDevice, JobDevices, JobError, JobInfo, JobStarted, JobState, NewJob,
    Outcomes, ParseAbortError, RATE_DEFAULT, StartError,
};
pub use offered::{Desk, Judged, MoveV2, MovedV2, moves_of};
pub use record::COMMANDS_TREE;
pub use standing::Standing;
pub use stats::Stats;
pub use submit::{NewCommand, SubmitError, Submitted};
pub use table::{AnswerError, Answered, CancelError, Effect, Ended, Guarded, Now, Receiver, Room, Table};
pub use take_up::{Around, Lost, TAKEN_UP_TREE, take_up_step};

use jobs::Jobs;
use mail::Mail;
use unstored::Unstored;

/// Bytes of commands that are listed at once.
const LISTED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Commands that are looked at for one list.
const LOOKED_AT_MAX: usize = 100_000;
/// The reader's name: whose cursors are stored.
pub const READER: &str = "commands";

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
    /// The log behind the stored commands could not be read.
    #[error("the steps of commands cannot be read: {0}; run `edgeway store verify`")]
    Log(#[from] event_log::ReadError),
}

/// What is read next.
struct Reading {
    commands: Vec<(PartitionId, u64)>,
    answers: Vec<(PartitionId, u64)>,
    /// Answer partitions whose cursor is to move with the next commit, by their place.
    answers_moved: Vec<usize>,
    others: others::Others,
    /// Whether there is more of this node's own than was read the last time.
    own_has_more: bool,
}

impl Reading {
    fn has_more(&self) -> bool {
        self.own_has_more || self.others.has_more
    }
}

/// The commands room. [`Commands::run`] is its one task.
pub struct Commands {
    log: Arc<EventLog>,
    sessions: Arc<Sessions>,
    config: Config,
    commands: Arc<Topic>,
    answers: Arc<Topic>,
    jobs_topic: Arc<Topic>,
    table: Mutex<Table>,
    /// Locked after the table, where both are.
    jobs: Mutex<Jobs>,
    starting_job: tokio::sync::Mutex<()>,
    reading: Mutex<Reading>,
    unstored: Mutex<Unstored>,
    mail: Arc<Mail>,
    guard: GuardSlot,
    asking: guards::Asking,
    directory: OnceLock<Arc<Directory>>,
    /// The way to other nodes of the site.
    forward: OnceLock<Arc<dyn Forward>>,
    handed_over: Mutex<forward::HandedOver>,
    movers: Mutex<move_on::Movers>,
    /// Locked for itself, or within the table.
    desk: Mutex<offered::Desk>,
    /// Locked after the log.
    down: down::Down,
    /// Locked after what is read.
    standing: Mutex<Standing>,
    /// Lives whose commands were taken up, or are; as many as the site has decided about.
    taking_up: Mutex<HashMap<OriginId, taken_up::TakingUp>>,
    /// Dead letters that are being sent again; at most one for each call under way.
    redriving: Mutex<HashSet<CommandId>>,
    /// Keys of submissions that are on their way to the table.
    submitting: Mutex<submit::Submitting>,
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
        let answers = log.ensure_topic(ANSWERS_TOPIC, Some(topic.clone()))?;
        let jobs_topic = log.ensure_topic(JOBS_TOPIC, Some(topic))?;
        log.ensure_topic(AUDIT_TOPIC, None)?;
        for topic in [&commands, &answers, &jobs_topic] {
            // Whoever made it first may have set no bound; one that was set is kept.
            if topic.config().retention_ms.is_none() && topic.config().retention_bytes.is_none() {
                log.store().set_topic_retention(topic.id(), Some(config.retention_ms), None)?;
            }
        }
        let room = Self {
            table: Mutex::new(Table::new(config.clone())),
            jobs: Mutex::default(),
            starting_job: tokio::sync::Mutex::default(),
            reading: Mutex::new(Reading {
                commands: Vec::new(),
                answers: Vec::new(),
                answers_moved: Vec::new(),
                others: others::Others::default(),
                own_has_more: false,
            }),
            unstored: Mutex::default(),
            mail: Arc::default(),
            guard: GuardSlot::default(),
            asking: guards::Asking::default(),
            directory: OnceLock::new(),
            forward: OnceLock::new(),
            handed_over: Mutex::default(),
            movers: Mutex::default(),
            desk: Mutex::default(),
            down: down::Down::default(),
            standing: Mutex::default(),
            taking_up: Mutex::default(),
            redriving: Mutex::default(),
            submitting: Mutex::default(),
            newest: Mutex::new(None),
            changed: watch::Sender::new(0),
            stats: Stats::default(),
            log,
            sessions,
            config,
            commands,
            answers,
            jobs_topic,
        };
        room.delete_unstarted_jobs()?;
        room.rebuild()?;
        Ok(Arc::new(room))
    }

    /// Puts the guard in that is asked before each dispatch; to be called before the task runs.
    pub fn set_guard(&self, guard: Arc<dyn Guard>) {
        self.guard.set(guard);
    }

    /// Says where devices are looked up; to be called before the task runs. Without it every device is taken for known.
    pub fn set_directory(&self, directory: Arc<Directory>) {
        let _ = self.directory.set(directory);
    }

    fn refuses_repeats(&self, device: &str) -> bool {
        self.directory.get().is_some_and(|directory| directory.refuses_repeats(device))
    }

    /// One command, as long as it is listed; one that another node of the site has, as far as its word has arrived here.
    pub fn get(&self, id: CommandId) -> Option<CommandInfo> {
        let now = self.now();
        let own = self.table.lock().get(id).map(|entry| (CommandInfo::at(entry, now), Claim::from(entry)));
        let own = own.map(|(info, claim)| (self.with_site(info), claim));
        let Some((own, claim)) = own else { return self.get_elsewhere(id, 0) };
        match claim {
            Claim { state, .. } if state.is_outcome() => self.outranks(id, claim).or(Some(own)),
            Claim { is_away: false, .. } => Some(own),
            // What a node said before this one had it from there says less.
            Claim { term, .. } => self.get_elsewhere(id, term).or(Some(own)),
        }
    }

    /// The same, with what its linked site has told.
    fn with_site(&self, info: CommandInfo) -> CommandInfo {
        let gateway = info.moved_to.filter(|_| !info.state.is_outcome());
        let at_site = gateway.and_then(|gateway| self.at_site(info.id, gateway.0));
        CommandInfo { at_site, ..info }
    }

    fn get_own(&self, id: CommandId) -> Option<CommandInfo> {
        let now = self.now();
        self.table.lock().get(id).map(|entry| CommandInfo::at(entry, now))
    }

    /// One command, as it is durable; where commits fail, as it was last.
    pub async fn read(&self, id: CommandId) -> Option<CommandInfo> {
        let (info, newest) = (self.get(id), *self.newest.lock());
        match newest {
            Some(ticket) if self.log.durable(ticket).await.is_err() => self.get(id),
            _ => info,
        }
    }

    /// Commands that a filter takes, the newest first, at most `max` and [`LISTED_BYTES_MAX`]. The newest
    /// [`LOOKED_AT_MAX`] are looked at.
    pub fn list(&self, filter: &Filter, max: usize) -> Vec<CommandInfo> {
        let (table, now) = (self.table.lock(), self.now());
        let found = table.newest_first().take(LOOKED_AT_MAX).filter(|entry| filter.takes(entry));
        let mut bytes = 0;
        let fits = found.take(max).take_while(|entry| {
            bytes += entry.bytes();
            bytes <= LISTED_BYTES_MAX
        });
        fits.map(|entry| CommandInfo::at(entry, now)).collect()
    }

    /// How many commands have not ended.
    pub fn pending(&self) -> usize {
        self.table.lock().pending()
    }

    /// Waits until a command has ended, durably; `None` when it has not within the time.
    pub async fn wait(&self, id: CommandId, timeout: Duration) -> Option<CommandInfo> {
        let ended = self.durably(|| self.get(id).filter(|info| info.state.is_outcome()));
        tokio::time::timeout(timeout, ended).await.ok()
    }

    /// Waits until there is something to be seen, and what it came from is durable.
    async fn durably<T>(&self, look: impl Fn() -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let seen = look();
            let newest = *self.newest.lock();
            let is_durable = match newest {
                Some(ticket) => self.log.durable(ticket).await.is_ok(),
                None => true,
            };
            if let Some(seen) = seen.filter(|_| is_durable) {
                return seen;
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

    fn now(&self) -> Now {
        let clock = self.log.clock();
        Now { steady: clock.steady_ms(), wall: u64::try_from(clock.wall_ms()).unwrap_or(0) }
    }
}
