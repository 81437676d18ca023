//! A node starts: its store is opened, and it is seen which life goes on.

use sled_data::{CommitNumber, OpenError, Options, OriginId, Recovered, Store};

use super::World;
use crate::seeded::stores;
use crate::site::history::Fact;
use crate::site::life::{Life, Small};
use crate::site::node::{Node, Running};

impl World {
    pub(super) fn open_node(&mut self, at: usize) {
        let node = self.nodes[at].id;
        let options = Options {
            seed: Some(self.random.next()),
            commit_records_max: self.commit_records_max,
            reserve_bytes: 0,
            ..Options::default()
        };
        match self.open_store(at, &options) {
            Ok((store, found)) => self.opened(at, store, &found),
            Err(error) => {
                self.history.note(Fact::Closed { node, why: error.to_string() });
                self.nodes[at].starts_at = self.history.time + 200;
            }
        }
    }

    /// Opens the store; one that has lost commits is opened as a new life, as people would do it.
    fn open_store(&mut self, at: usize, options: &Options) -> Result<(Store, Recovered), OpenError> {
        let Node { id: node, ref backend, .. } = self.nodes[at];
        let lost = |error: &OpenError| self.history.note(Fact::Closed { node, why: error.to_string() });
        stores::open(backend, options.clone(), lost)
    }

    fn opened(&mut self, at: usize, store: Store, found: &Recovered) {
        let origin = store.origin();
        let before = self.history.lives.get(self.nodes[at].life).map(|life| life.origin);
        if let Some(before) = before {
            self.compare(at, &store, before);
        }
        let life = match before {
            Some(before) if before == origin => self.go_on(at, found.last_commit),
            // A disk that lied may have lost the beginning of the last life, with all of it.
            before => self.begin_life(at, &store, found.ended_life.or(before)),
        };
        let node = &mut self.nodes[at];
        node.life = life;
        let run = Running::new(store, found.last_hlc);
        node.note_disk(&run);
        node.running = Some(run);
        self.history.note(Fact::Up { node: self.nodes[at].id, life, commit: found.last_commit });
    }

    /// Whether all that was on the disk is in the store; what the disk said was there and is not.
    fn compare(&mut self, at: usize, store: &Store, own: OriginId) {
        let node = self.nodes[at].id;
        self.nodes[at].disk.break_promises();
        let durable = std::mem::take(&mut self.nodes[at].disk.durable);
        let claimed = std::mem::take(&mut self.nodes[at].disk.claimed);
        for (origin, durable) in durable {
            // Of lives before the last the records go.
            let is_older =
                origin != own && origin != store.origin() && !store.followed().iter().any(|(of, _)| *of == origin);
            if is_older {
                continue;
            }
            let found = store.last_commit_of(origin);
            self.history.note(Fact::Kept { node, origin, durable, found });
            if claimed.get(&origin).is_some_and(|claimed| *claimed > found) {
                self.history.note(Fact::Lost { node, origin: Some(origin), after: found });
                if origin == own {
                    self.history.doubtful.insert(origin);
                }
            }
        }
    }

    /// The same life goes on; what was never promised is as if it had not been.
    fn go_on(&mut self, at: usize, last: CommitNumber) -> usize {
        let life = self.nodes[at].life;
        let last = usize::try_from(last.0).unwrap();
        let origin = self.history.lives[life].origin;
        if self.history.lives[life].commits.len() > last {
            if self.history.doubtful.contains(&origin) {
                return self.fork(at, last);
            }
            self.history.lives[life].commits.truncate(last);
        }
        life
    }

    /// One more life of the same origin, which is the same up to a commit.
    pub(super) fn fork(&mut self, at: usize, commits: usize) -> usize {
        let mut life = self.history.lives[self.nodes[at].life].clone();
        life.node = self.nodes[at].id;
        life.commits.truncate(commits);
        self.history.lives.push(life);
        self.history.lives.len() - 1
    }

    fn begin_life(&mut self, at: usize, store: &Store, before: Option<OriginId>) -> usize {
        let node = self.nodes[at].id;
        let lives = &self.history.lives;
        let last = before.and_then(|before| lives.iter().rfind(|life| life.origin == before && life.node == node));
        let base = match (before, last.or_else(|| lives.get(self.nodes[at].life))) {
            (Some(before), Some(life)) => life.small_at(store.last_commit_of(before)),
            _ => Small::default(),
        };
        self.nodes[at].ended = before;
        self.history.ended.extend(before);
        self.history.lives.push(Life { origin: store.origin(), node, base, commits: Vec::new() });
        self.history.lives.len() - 1
    }

    /// The present life ends: the node starts again with another.
    pub(super) fn end_life(&mut self, at: usize, run: &mut Running, why: &'static str) {
        let node = self.nodes[at].id;
        let origin = run.store.origin();
        self.history.note(Fact::Ended { node, origin, why });
        let ended = run.store.end_life(why);
        run.failed = Some(if ended.is_ok() { "its life ended" } else { "its store failed" });
    }
}
