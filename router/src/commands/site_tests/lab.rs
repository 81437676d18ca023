//! A site of three nodes with their rooms of commands, and the ways between them, which tests break.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use devices::command::State;
use sled_data::{CommitNumber, MemoryBackend, OriginId};

use super::super::tests::{LONG, Node, backend, command};
use super::super::*;
use crate::sessions::Heard;

/// The ways between nodes.
#[derive(Default)]
pub struct Net {
    pub rooms: Mutex<HashMap<OriginId, Arc<Commands>>>,
    /// Nodes that are not heard.
    pub gone: Mutex<HashSet<OriginId>>,
    pub loses_answers: AtomicBool,
    pub loses_questions: AtomicBool,
    pub asked: AtomicUsize,
    /// The first question.
    pub first: Mutex<Option<Vec<u8>>>,
}

impl Forward for Net {
    fn submit(&self, origin: OriginId, request: Vec<u8>) -> Answering<'_> {
        Box::pin(async move {
            let room = self.rooms.lock().get(&origin).cloned();
            let Some(room) = room.filter(|_| self.is_heard(origin)) else {
                return Err(ForwardError::Unreachable("gone".into()));
            };
            self.first.lock().get_or_insert_with(|| request.clone());
            if self.loses_questions.load(Ordering::Relaxed) {
                return Err(ForwardError::Unanswered("lost".into()));
            }
            let answer = room.take_forwarded(&request).await;
            self.asked.fetch_add(1, Ordering::Relaxed);
            match self.loses_answers.load(Ordering::Relaxed) {
                true => Err(ForwardError::Unanswered("lost".into())),
                false => Ok(answer),
            }
        })
    }
}

impl Heard for Net {
    fn is_heard(&self, origin: OriginId) -> bool {
        !self.gone.lock().contains(&origin)
    }
}

/// A site of three.
pub(in crate::commands) struct Site {
    pub nodes: Vec<Option<Node>>,
    pub disks: Vec<Arc<MemoryBackend>>,
    pub net: Arc<Net>,
}

pub const A: usize = 0;
pub const B: usize = 1;
pub const C: usize = 2;

impl Site {
    pub async fn of_three() -> Self {
        let mut site =
            Self { nodes: vec![None, None, None], disks: (0..3).map(|_| backend()).collect(), net: Arc::default() };
        [A, B, C].into_iter().for_each(|place| site.start(place));
        // Everybody knows everybody.
        for place in [A, B, C] {
            site[place].sessions.disconnect(&site[place].connect(&format!("first-{place}")).await, None, Vec::new());
        }
        let is_known = |site: &Self| site.nodes.iter().flatten().all(|node| node.log.others().len() == 2);
        site.until("everybody is known", || is_known(&site).then_some(())).await;
        site
    }

    pub fn start(&mut self, place: usize) {
        let node = Node::open_in(Some(1), 7 + place as u64, &self.disks[place], Config::default());
        node.room.set_forward(Arc::clone(&self.net) as _);
        node.sessions.set_heard(Arc::clone(&self.net) as _);
        self.net.rooms.lock().insert(node.log.origin(), Arc::clone(&node.room));
        self.net.gone.lock().remove(&node.log.origin());
        self.nodes[place] = Some(node.run());
    }

    /// A node is gone, with what it had not stored.
    pub async fn stop(&mut self, place: usize) {
        let node = self.nodes[place].take().unwrap();
        self.net.gone.lock().insert(node.log.origin());
        self.net.rooms.lock().remove(&node.log.origin());
        node.end().await;
    }

    /// Everybody gets what everybody has written.
    pub async fn ship(&self) {
        for from in self.nodes.iter().flatten() {
            for to in self.nodes.iter().flatten().filter(|to| to.log.origin() != from.log.origin()) {
                // What is left of the life before comes first.
                let ended = from.log.store().ended_life().map(|(life, _)| life);
                for origin in ended.into_iter().chain([from.log.origin()]) {
                    ship(&from.log, &to.log, origin).await;
                }
            }
        }
    }

    /// Ships until something is so.
    pub async fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let begin = std::time::Instant::now();
        loop {
            self.ship().await;
            if let Some(found) = look() {
                return found;
            }
            assert!(begin.elapsed() < LONG, "{what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub async fn end(self) {
        for node in self.nodes.into_iter().flatten() {
            node.end().await;
        }
    }
}

/// What a node has of a life comes to another one.
async fn ship(from: &EventLog, to: &EventLog, origin: OriginId) {
    loop {
        let next = CommitNumber(to.store().followed_commit(origin).0 + 1);
        let commits = from.store().commits_to_ship(origin, next, 1 << 20).unwrap();
        if commits.is_empty() {
            return;
        }
        to.follow(commits).await.unwrap();
    }
}

impl std::ops::Index<usize> for Site {
    type Output = Node;

    fn index(&self, place: usize) -> &Node {
        self.nodes[place].as_ref().unwrap()
    }
}

pub async fn queued_at(node: &Node, device: &str, edit: impl FnOnce(&mut NewCommand)) -> CommandId {
    let mut new = command(device, "start");
    edit(&mut new);
    node.room.submit(new).await.unwrap().id
}

pub fn ended(node: &Node, id: CommandId) -> Option<State> {
    node.room.get(id).map(|info| info.state).filter(|state| state.is_outcome())
}
