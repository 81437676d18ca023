//! Agreement on what people set, by openraft: nothing else of the program knows it.
//!
//! `stored` and `wire` are what is stored and said, in forms of our own. `log_store` keeps the log, `machine` takes its
//! entries into the state, `snapshot` is the whole state page by page; all through the event log, so that a change, its
//! event and its place are one commit. `network` asks other nodes, `answer` is what they are answered. `hand_over`
//! brings a proposal to the leader, `accept` is what the leader does with it. `roles` (one room up) says who votes,
//! `reconcile` sees to it. `stand` asks before an election; `reach` bounds terms. `group` founds a group of one; `book` is what all of them share.
//!
//! Tree `raft`: `me`, `group`, `waits`, `vote`, `applied`, `purged`, `log/` and eight bytes; while a state is being
//! installed `page/` and four bytes, and `install`. Each value is a version byte, then postcard.

mod accept;
mod answer;
mod apart;
mod book;
mod group;
mod hand_over;
mod heard;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(in crate::catalog) mod leavings;
mod log_store;
mod machine;
mod network;
mod open;
mod proposal;
mod reach;
mod reconcile;
mod snapshot;
mod stand;
mod status;
mod stored;
mod timing;
mod touch;
mod wire;
mod writer;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use log_store::LogStore;
use machine::Machine;
use network::Network;

use crate::catalog::change::Terms;
use crate::transport::NodeId;

pub(in crate::catalog) use book::Book;
pub(in crate::catalog) use hand_over::Handed;
pub(in crate::catalog) use open::{OpenError, Plan, plan};
pub(in crate::catalog) use proposal::encode_change;
pub(in crate::catalog) use wire::PROPOSAL_BYTES_MAX;

pub use group::Founder;
pub use network::{Alone, Ask, Asked, NoAnswer};
pub use status::{ConsensusStatus, Follower};
pub use timing::Timing;
pub use wire::BODY_BYTES_MAX;

pub(in crate::catalog) use answer::WHO_BYTES_MAX;

openraft::declare_raft_types!(
    /// What openraft is used with.
    pub(super) Types:
        D = Vec<u8>,
        R = (),
        NodeId = crate::transport::NodeId,
        Node = (),
        Entry = openraft::Entry<Types>,
        SnapshotData = snapshot::Capture,
        Responder = openraft::impls::OneshotResponder<Types>,
        AsyncRuntime = openraft::TokioRuntime,
);

type Raft = openraft::Raft<Types>;

/// How far openraft is.
#[derive(Clone)]
enum Slot {
    Starting,
    Running(Raft),
    /// It has ended: why.
    Down(String),
}

/// This node's part in the agreement.
pub(in crate::catalog) struct Consensus {
    pub(in crate::catalog) book: Arc<Book>,
    network: Network,
    slot: watch::Sender<Slot>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Ends when nothing of an openraft that was started applies changes any more.
    applying: Mutex<Option<mpsc::Receiver<Infallible>>>,
    /// Held while openraft is started or stopped.
    turning: tokio::sync::Mutex<()>,
}

impl Consensus {
    pub(in crate::catalog) fn new(book: Arc<Book>, way: Arc<dyn Ask>) -> Arc<Self> {
        let network = Network { book: Arc::clone(&book), way };
        let slot = watch::Sender::new(Slot::Starting);
        let (tasks, applying) = (Mutex::default(), Mutex::default());
        Arc::new(Self { book, network, slot, tasks, applying, turning: tokio::sync::Mutex::default() })
    }

    /// Starts openraft on what is stored, once what is planned is done; it goes on in tasks of its own.
    pub(in crate::catalog) fn start(self: &Arc<Self>, plan: Option<Plan>) {
        let consensus = Arc::clone(self);
        let task = tokio::spawn(async move {
            match consensus.wait_ready(plan).await {
                Ok(()) => consensus.run().await,
                Err(why) => consensus.fall(why),
            }
        });
        self.tasks.lock().push(task);
    }

    /// Waits for room in the store.
    async fn wait_ready(&self, plan: Option<Plan>) -> Result<(), String> {
        let Some(plan) = plan.map(Arc::new) else { return Ok(()) };
        tracing::warn!("the store is full: what is set can be read and not changed until there is room");
        loop {
            tokio::time::sleep(self.book.timing.beat).await;
            let (book, plan) = (Arc::clone(&self.book), Arc::clone(&plan));
            let made = tokio::task::spawn_blocking(move || plan.make(&book)).await;
            if made.map_err(|error| error.to_string())?? {
                return Ok(());
            }
        }
    }

    async fn run(self: &Arc<Self>) {
        let config = Arc::new(self.book.timing.to_raft());
        let (alive, applying) = mpsc::channel(1);
        *self.applying.lock() = Some(applying);
        let (log, book) = (LogStore { book: Arc::clone(&self.book) }, Arc::clone(&self.book));
        let machine = Machine { book, _alive: alive };
        match Raft::new(self.book.me, config, self.network.clone(), log, machine).await {
            Ok(raft) => {
                self.slot.send_replace(Slot::Running(raft.clone()));
                let why = self.reconcile(&raft).await;
                self.fall(why);
            }
            Err(error) => self.fall(error.to_string()),
        }
    }

    fn fall(&self, why: String) {
        if !self.book.is_closing() {
            tracing::error!(why, "this node takes no part in changes any more; what is set stays readable");
        }
        self.slot.send_replace(Slot::Down(why));
    }

    /// Whether those who vote do so alone here: while one set of them gives way to another, a majority of both is needed.
    #[cfg(test)]
    pub(in crate::catalog) fn has_one_set_of_voters(&self) -> bool {
        self.raft()
            .is_some_and(|raft| raft.metrics().borrow().membership_config.membership().get_joint_config().len() == 1)
    }

    fn raft(&self) -> Option<Raft> {
        match &*self.slot.borrow() {
            Slot::Running(raft) => Some(raft.clone()),
            Slot::Starting | Slot::Down(_) => None,
        }
    }

    /// Ends openraft; what is set stays readable.
    pub(in crate::catalog) async fn close(&self) {
        let _turn = self.turning.lock().await;
        self.stop().await;
    }

    /// `false`: a change is being made yet, as the disk does not answer. It is the last one: who stops it again waits for it again.
    async fn stop(&self) -> bool {
        self.book.set_closing(true);
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            task.abort();
            // It can only have been aborted.
            let _ = task.await;
        }
        if let Slot::Running(raft) = self.slot.send_replace(Slot::Down("it was closed".to_owned()))
            && let Err(error) = raft.shutdown().await
        {
            tracing::error!(%error, "the consensus did not end in order");
        }
        // What comes after finds the state as it stays.
        let Some(mut applying) = self.applying.lock().take() else { return true };
        if tokio::time::timeout(self.book.timing.apply_wait(), applying.recv()).await.is_ok() {
            return true;
        }
        tracing::error!("a change is being made while the consensus ends");
        *self.applying.lock() = Some(applying);
        false
    }

    /// Makes this node the only one of a new group, whatever the others say; these members count as lost, for `who`.
    ///
    /// # Errors
    /// What cannot be written; the old group stays then. Where a change is being made yet, this node takes no part any more until it is started again, or
    /// this is repeated: two that make changes beside each other would undo each other's.
    pub(in crate::catalog) async fn take_alone(
        self: &Arc<Self>,
        who: &str,
        nodes: BTreeSet<NodeId>,
    ) -> Result<(), String> {
        let _turn = self.turning.lock().await;
        if !self.stop().await {
            let why = "the disk has not answered for a while, and a change that was begun before is being made yet";
            self.slot.send_replace(Slot::Down(format!("it was to go on alone: {why}")));
            return Err(why.to_owned());
        }
        let (book, who) = (Arc::clone(&self.book), who.to_owned());
        // Their place is known when they are judged.
        let terms = Terms::new(&book.config, book.log.clock().wall_ms(), 0);
        let taken = tokio::task::spawn_blocking(move || {
            group::take_alone(&book.log, book.me, group::LostMembers { who: &who, nodes, terms })?;
            open::fill(&book)
        })
        .await;
        let taken = taken.unwrap_or_else(|error| Err(error.to_string()));
        let ends = log_store::find_ends(&self.book.log)?;
        *self.book.ends.lock() = ends;
        self.book.set_closing(false);
        self.slot.send_replace(Slot::Starting);
        self.start(None);
        taken
    }
}
