//! Brings what sites below are to have of plugins to every node of this site: a link may lead to any of them, and any may be lost.
//!
//! Each node asks the others every two seconds, and where nothing is known yet every thirty, whether they know something new (`wire`), and takes what it
//! does not know; a component is then fetched as
//! those of the site's own plugins are. What counts where nodes know different things is the room's: `plugin_host::Wants`.

#[cfg(test)]
mod tests;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::components::{Components, fetch};
use super::plan::{Failures, Task};
use crate::plugin_host::{ENTRIES_AT_ONCE_MAX, GONE_MAX, Head, WANTS_MAX, WASM_BYTES_MAX, Wants, hex};
use crate::replication::Pending;
use crate::transport::NodeId;
use wire::{Answer, Ask};

/// How often the others are asked while something is known here.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often where nothing is: who is told something has the others hear it at once, and one that comes is asked at once. A question takes some 200 bytes
/// each way with all that QUIC adds, and most sites never have anything to ask.
const LOOK_EVERY_AT_REST: Duration = Duration::from_secs(30);
/// How long it is waited for them before something is changed here: what they know counts as said before.
const LEVEL_WAIT: Duration = if cfg!(test) { Duration::from_secs(1) } else { Duration::from_secs(5) };
/// Plugins that are taken from one node.
const HEADS_MAX: usize = 2 * (WANTS_MAX + GONE_MAX);

/// The other nodes, to who asks them what sites below are to have.
pub trait Others: Components {
    /// Asks one of them. Why there is no answer, in words.
    fn ask_wants(&self, node: NodeId, body: Vec<u8>) -> Pending<'_, Result<Vec<u8>, String>>;
}

/// What is known here and at the others.
pub struct Spread {
    wants: Arc<Wants>,
    others: Arc<dyn Others>,
    /// Up to which revision each node was heard.
    heard: Mutex<BTreeMap<NodeId, u64>>,
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err("the node is stopping".to_owned()))
}

impl Spread {
    /// Of this node's room, with these others.
    pub fn new(wants: Arc<Wants>, others: Arc<dyn Others>) -> Arc<Self> {
        Arc::new(Self { wants, others, heard: Mutex::default() })
    }

    /// Goes on for as long as the node runs.
    pub async fn run(self: Arc<Self>) {
        tokio::join!(self.hear_on(), self.fetch_on());
    }

    async fn hear_on(self: &Arc<Self>) {
        loop {
            let nodes = self.others.nodes();
            self.hear_all().await;
            let (wants, since) = (Arc::clone(&self.wants), Instant::now());
            // Where it cannot be read, it is asked for.
            let is_nothing = blocking(move || wants.known().map_err(|error| error.to_string())).await;
            let is_at_rest = is_nothing.is_ok_and(|known| known.heads.is_empty());
            let (pause, revision) = (if is_at_rest { LOOK_EVERY_AT_REST } else { LOOK_EVERY }, self.wants.revision());
            loop {
                sleep(LOOK_EVERY).await;
                let has_news = self.wants.revision() != revision || self.others.nodes() != nodes;
                if has_news || since.elapsed() >= pause {
                    break;
                }
            }
        }
    }

    /// Answers another node; `None` where the question is none, or cannot be answered.
    pub async fn answer(self: &Arc<Self>, from: NodeId, body: Vec<u8>) -> Option<Vec<u8>> {
        let ask = Ask::decode(&body)?;
        if ask == Ask::Look {
            let heard = timeout(LEVEL_WAIT, self.hear(from)).await;
            return matches!(heard, Ok(Ok(()))).then(|| Answer::Same.encode());
        }
        let wants = Arc::clone(&self.wants);
        let read = blocking(move || {
            let answer = match ask {
                Ask::Known(revision) if revision == wants.revision() => Ok(Answer::Same),
                Ask::Known(_) | Ask::Look => wants.known().map(Answer::Known),
                Ask::Entries(of) => wants.entries(&of).map(Answer::Entries),
            };
            answer.map_err(|error| error.to_string())
        });
        match read.await {
            Ok(answer) => Some(answer.encode()),
            Err(error) => {
                tracing::error!(error, "it cannot be read what sites are to have of plugins");
                None
            }
        }
    }

    /// What sites are to have, as this node knows it.
    pub fn wants(&self) -> &Arc<Wants> {
        &self.wants
    }

    /// Before something is changed here: hears from all that are connected, as far as they answer in time.
    pub async fn hear_others(self: &Arc<Self>) {
        if timeout(LEVEL_WAIT, self.hear_all()).await.is_err() {
            tracing::warn!(
                "a node does not say in time what sites are to have of plugins: what was said there of late may count"
            );
        }
    }

    /// When something was changed here: the others hear it, as far as they do in time. Else they ask in a moment.
    pub async fn tell_others(self: &Arc<Self>) {
        let mut told = JoinSet::new();
        for node in self.others.nodes() {
            let spread = Arc::clone(self);
            told.spawn(async move { spread.ask(node, &Ask::Look).await });
        }
        let _ = timeout(LEVEL_WAIT, async { while told.join_next().await.is_some() {} }).await;
    }

    /// Hears from all others at once: one that is slow keeps nobody waiting but those who wait for all.
    async fn hear_all(self: &Arc<Self>) {
        let nodes = self.others.nodes();
        self.heard.lock().retain(|node, _| nodes.contains(node));
        let mut asked = JoinSet::new();
        for node in nodes {
            let spread = Arc::clone(self);
            asked.spawn(async move {
                // One of an earlier release does not know the question.
                if let Err(why) = spread.hear(node).await {
                    tracing::debug!(%node, why, "another node does not say what sites are to have of plugins");
                }
            });
        }
        while asked.join_next().await.is_some() {}
    }

    async fn ask(&self, node: NodeId, ask: &Ask) -> Result<Answer, String> {
        let answer = self.others.ask_wants(node, ask.encode()).await?;
        Answer::decode(&answer).ok_or_else(|| "it answers in an unknown way; are the versions apart?".to_owned())
    }

    /// Takes what another node knows and this one does not.
    async fn hear(&self, node: NodeId) -> Result<(), String> {
        let revision = self.heard.lock().get(&node).copied().unwrap_or(0);
        let known = match self.ask(node, &Ask::Known(revision)).await? {
            Answer::Same => return Ok(()),
            Answer::Known(known) if known.heads.len() <= HEADS_MAX => known,
            _ => return Err("it answers something else than what it was asked".to_owned()),
        };
        for of in self.unknown(known.heads).await?.chunks(ENTRIES_AT_ONCE_MAX) {
            let Answer::Entries(entries) = self.ask(node, &Ask::Entries(of.to_vec())).await? else {
                return Err("it answers something else than what it was asked".to_owned());
            };
            let wants = Arc::clone(&self.wants);
            blocking(move || wants.hear(entries).map_err(|error| error.to_string())).await?;
        }
        self.heard.lock().insert(node, known.revision);
        Ok(())
    }

    async fn unknown(&self, heads: Vec<Head>) -> Result<Vec<(String, String)>, String> {
        let wants = Arc::clone(&self.wants);
        blocking(move || wants.unknown(heads).map_err(|error| error.to_string())).await
    }

    /// Fetches components that are not here, one at a time, whenever something is wanted.
    async fn fetch_on(&self) {
        let (mut changed, mut failures) = (self.wants.watch(), Failures::default());
        loop {
            changed.borrow_and_update();
            let is_done = self.fetch_all(&mut failures).await;
            // What is not here is asked for again: another node may have come. A file may be lost, too.
            let pause = if is_done { 15 * LOOK_EVERY } else { LOOK_EVERY };
            if let Ok(Err(_)) = timeout(pause, changed.changed()).await {
                return;
            }
        }
    }

    /// One turn; whether nothing is lacking any more.
    async fn fetch_all(&self, failures: &mut Failures) -> bool {
        let wants = Arc::clone(&self.wants);
        let Ok(lacking) = blocking(move || wants.lacking().map_err(|error| error.to_string())).await else {
            return false;
        };
        let named: Vec<_> = lacking.into_iter().map(|(sha256, bytes)| (hex(&sha256), sha256, bytes)).collect();
        failures.keep(&named.iter().map(|(name, ..)| Task::Run(name.clone())).collect::<Vec<_>>());
        let mut is_done = true;
        for (name, sha256, bytes) in named {
            let nodes = self.others.nodes();
            if !failures.is_due(&name, (0, 0), self.wants.now(), &nodes) {
                is_done = false;
                continue;
            }
            match self.fetch(&nodes, sha256, bytes).await {
                Ok(()) => failures.clear(&name),
                Err(why) => {
                    is_done = false;
                    let asked: BTreeSet<NodeId> = nodes.into_iter().collect();
                    if failures.add(&name, (0, 0), self.wants.now(), Some(asked)) {
                        tracing::warn!(
                            sha256 = name,
                            why,
                            "the component of a plugin that a site is to have is not here yet"
                        );
                    }
                }
            }
        }
        is_done
    }

    /// Fetches one from the first node that has it.
    async fn fetch(&self, nodes: &[NodeId], sha256: [u8; 32], bytes: u64) -> Result<(), String> {
        let mut why = "no other node is connected that could have it".to_owned();
        for node in nodes {
            let fetched = fetch(&*self.others, *node, sha256, bytes.min(WASM_BYTES_MAX as u64)).await;
            let kept = match fetched {
                Ok(wasm) => {
                    let wants = Arc::clone(&self.wants);
                    blocking(move || wants.keep_component(&wasm, &sha256).map_err(|error| error.to_string())).await
                }
                Err(error) => Err(error),
            };
            match kept {
                Ok(true) => {
                    tracing::info!(%node, bytes, "the component of a plugin that a site is to have was fetched");
                    return Ok(());
                }
                Ok(false) => why = format!("node {node}: what it has is damaged"),
                Err(error) => why = format!("node {node}: {error}"),
            }
        }
        Err(why)
    }
}
