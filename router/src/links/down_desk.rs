//! Upstream's part of what a link brings down: asks gateways, on the most urgent stream of their link, and hears what they say.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::book::Shared;
use super::down::{GiveDown, SAID_BYTES_MAX, decode_words, encode_words};
use super::plugins::PLUGINS;
use super::receiver::Ended;
use super::topics::BRINGS_TOPICS;
use super::wire::Answer;
use super::within::{Out, Told, give};
use crate::transport::NodeId;

/// Frames that wait to be sent to one gateway.
const WAITING_MAX: usize = 8;
/// Questions to one gateway that have no answer, those too that nobody waits for any more: half of what an edge keeps answers of.
const ASKED_MAX: usize = 8;
/// Reports of one gateway that are taken at once: it makes one of ends at a time, and those of progress take no time.
const HEARD_MAX: usize = 2;
/// How long an answer is waited for: a frame of the largest size over a thin link.
const ANSWER_WAIT: Duration = if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(60) };
/// The number of the first question: what may come down. It says what the program here can bring.
const GREETING: u64 = 0;

/// Why a gateway has given no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// It was not asked.
    #[error("no link of that gateway stands, or it is asked too much already")]
    NotAsked,
    /// It was, and may have done what was asked for.
    #[error("the gateway has not answered: {0}")]
    Unanswered(&'static str),
}

/// The gateways that can be asked.
#[derive(Default)]
pub struct Desk {
    giver: OnceLock<Arc<dyn GiveDown>>,
    lines: Mutex<BTreeMap<NodeId, Arc<Line>>>,
}

/// The way to one gateway.
pub(super) struct Line {
    giver: Arc<dyn GiveDown>,
    site: String,
    gateway: NodeId,
    page: Shared,
    out: mpsc::Sender<Answer>,
    asked: Mutex<HashMap<u64, oneshot::Sender<Vec<u8>>>>,
    number: AtomicU64,
    /// Whether the gateway has said what may come down.
    is_open: AtomicBool,
    /// One report of ends at a time, and one of progress.
    hearing: Arc<Semaphore>,
}

/// A stream's hold on its line, which ends with it.
pub(super) struct Held {
    desk: Weak<Desk>,
    pub(super) line: Arc<Line>,
    /// What is to be sent.
    pub(super) out: mpsc::Receiver<Answer>,
}

impl Desk {
    /// Says who gives commands; before the first connection.
    pub fn set_giver(&self, giver: Arc<dyn GiveDown>) {
        let _ = self.giver.set(giver);
    }

    /// A gateway's stream stands, whose program knows of what comes down. It is asked what may.
    pub(super) fn open(self: &Arc<Self>, site: &str, gateway: NodeId, page: &Shared) -> Option<Held> {
        let giver = Arc::clone(self.giver.get()?);
        let (out, waiting) = mpsc::channel(WAITING_MAX);
        let line = Arc::new(Line {
            giver,
            site: site.to_owned(),
            gateway,
            page: Arc::clone(page),
            out,
            asked: Mutex::default(),
            number: AtomicU64::new(GREETING),
            is_open: AtomicBool::new(false),
            hearing: Arc::new(Semaphore::new(HEARD_MAX)),
        });
        // The line is new: there is a place.
        let brings = encode_words(&[BRINGS_TOPICS, PLUGINS].map(str::to_owned));
        let _ = line.out.try_send(Answer::Asked(GREETING, brings));
        self.lines.lock().insert(gateway, Arc::clone(&line));
        Some(Held { desk: Arc::downgrade(self), line, out: waiting })
    }

    /// A gateway of a site that can be asked now.
    pub fn gateway_of(&self, site: &str) -> Option<NodeId> {
        let lines = self.lines.lock();
        let found = lines.values().find(|line| line.site == site && line.is_open.load(Ordering::Relaxed));
        found.map(|line| line.gateway)
    }

    /// All that can be asked now, each with its site.
    pub fn gateways(&self) -> Vec<(String, NodeId)> {
        let lines = self.lines.lock();
        let open = lines.values().filter(|line| line.is_open.load(Ordering::Relaxed));
        open.map(|line| (line.site.clone(), line.gateway)).collect()
    }

    /// Asks a gateway. A question that is not answered in time keeps its place until it is, or the line ends: over a line that brings
    /// answers slowly, more are not asked than it brings.
    ///
    /// # Errors
    /// Whether it may have heard it.
    pub async fn ask(&self, gateway: NodeId, question: Vec<u8>) -> Result<Vec<u8>, AskError> {
        let line = self.lines.lock().get(&gateway).cloned().filter(|line| line.is_open.load(Ordering::Relaxed));
        let line = line.ok_or(AskError::NotAsked)?;
        let number = line.number.fetch_add(1, Ordering::Relaxed) + 1;
        let (reply, answer) = oneshot::channel();
        {
            let mut asked = line.asked.lock();
            if asked.len() >= ASKED_MAX {
                return Err(AskError::NotAsked);
            }
            asked.insert(number, reply);
        }
        if line.out.try_send(Answer::Asked(number, question)).is_err() {
            line.asked.lock().remove(&number);
            return Err(AskError::NotAsked);
        }
        match timeout(ANSWER_WAIT, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(AskError::Unanswered("the link was cut")),
            Err(_) => Err(AskError::Unanswered("no answer in a minute")),
        }
    }
}

impl Line {
    /// The gateway answers. What nobody asked is passed over.
    pub(super) fn answered(&self, number: u64, answer: Vec<u8>) {
        if number != GREETING {
            if let Some(reply) = self.asked.lock().remove(&number) {
                // Who asked may have gone.
                let _ = reply.send(answer);
            }
            return;
        }
        self.page.lock().down = decode_words(&answer);
        if !self.is_open.swap(true, Ordering::Relaxed) {
            self.giver.gateway_came(&self.site, self.gateway);
        }
    }

    /// The gateway says what has ended, or how far it is. One that says more before it was answered says it again later.
    pub(super) fn ended(self: &Arc<Self>, said: Vec<u8>) {
        let Ok(place) = Arc::clone(&self.hearing).try_acquire_owned() else { return };
        let line = Arc::clone(self);
        tokio::spawn(async move {
            if let Some(known) = line.giver.ended(line.gateway, said).await {
                let _ = line.out.send(Answer::Known(known)).await;
            }
            drop(place);
        });
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Who waits hears that the link was cut.
        self.line.is_open.store(false, Ordering::Relaxed);
        self.line.asked.lock().clear();
        let Some(desk) = self.desk.upgrade() else { return };
        let mut lines = desk.lines.lock();
        if lines.get(&self.line.gateway).is_some_and(|last| Arc::ptr_eq(last, &self.line)) {
            lines.remove(&self.line.gateway);
        }
        drop(lines);
        self.line.giver.gateway_left();
    }
}

/// What an edge says of what comes down; only one that is asked says something.
pub(super) fn heard(
    line: Option<&Arc<Line>>,
    said: Vec<u8>,
    hear: impl FnOnce(&Arc<Line>, Vec<u8>),
) -> Result<Vec<Told>, Ended> {
    let line = line.ok_or_else(|| Ended::Wrong("an answer that nobody asked for".to_owned()))?;
    if said.len() > SAID_BYTES_MAX {
        return Err(Ended::Wrong(format!("{} bytes about what came down; {SAID_BYTES_MAX} are the most", said.len())));
    }
    hear(line, said);
    Ok(Vec::new())
}

/// Sends what is to come down, as it comes.
pub(super) async fn bring_down(out: &Out, asks: Option<Held>) -> Result<(), Ended> {
    let Some(mut held) = asks else { return Ok(()) };
    while let Some(frame) = held.out.recv().await {
        give(out, &frame).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::super::within::Pending;
    use super::*;

    /// Counts who left.
    #[derive(Default)]
    struct NoCommands(AtomicUsize);

    impl GiveDown for NoCommands {
        fn gateway_came(&self, _: &str, _: NodeId) {}

        fn gateway_left(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn ended(&self, _: NodeId, _: Vec<u8>) -> Pending<'_, Option<Vec<u8>>> {
            Box::pin(async { None })
        }
    }

    #[tokio::test]
    async fn a_line_that_brings_no_answers_is_asked_no_more_until_it_does() {
        let desk = Arc::<Desk>::default();
        let giver = Arc::<NoCommands>::default();
        desk.set_giver(Arc::clone(&giver) as _);
        let (gateway, page) = (NodeId(7), Shared::default());
        let mut held = desk.open("plant", gateway, &page).unwrap();
        assert_eq!(desk.ask(gateway, vec![0]).await, Err(AskError::NotAsked), "it has not said what may come down");
        held.line.answered(GREETING, encode_words(&[]));
        // All are sent, and none is answered in time.
        for number in 0..=ASKED_MAX as u64 {
            let asked = desk.ask(gateway, vec![1]).await;
            let is_asked = number < ASKED_MAX as u64;
            assert_eq!(matches!(asked, Err(AskError::Unanswered(_))), is_asked, "{number}: {asked:?}");
            while let Ok(frame) = held.out.try_recv() {
                assert!(matches!(frame, Answer::Asked(..)), "{frame:?}");
            }
        }
        // A late answer, which nobody waits for, makes room for one more.
        held.line.answered(3, vec![3]);
        let (asked, ()) = tokio::join!(desk.ask(gateway, vec![2]), async {
            let Some(Answer::Asked(number, _)) = held.out.recv().await else { panic!("it was asked") };
            held.line.answered(number, vec![9]);
        });
        assert_eq!(asked, Ok(vec![9]));
        // With the line they end.
        assert_eq!(giver.0.load(Ordering::Relaxed), 0);
        drop(held);
        assert_eq!(giver.0.load(Ordering::Relaxed), 1, "it is looked for elsewhere");
        let held = desk.open("plant", gateway, &page).unwrap();
        held.line.answered(GREETING, encode_words(&[]));
        assert!(matches!(desk.ask(gateway, vec![3]).await, Err(AskError::Unanswered(_))));
    }
}
