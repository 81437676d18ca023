//! Who writes the lives that are followed: the node from which one was followed while it was written. One that was followed first after it had ended comes
//! from others: whose it was its node says in a later life (`own_lives`, see `ended`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sled_data::{CopyState, FollowError, FollowedCommit, OriginId};

use super::EventLog;
use super::committer::Observer;
use super::ended::{LIVES_TREE, life_of};

impl EventLog {
    /// Notes which node writes a life that is followed, and tells observers. Durable with the next sync of the store. To be called where blocking is fine.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn set_writer(&self, life: OriginId, node: u64) -> Result<(), FollowError> {
        let _showing = self.showing.lock();
        self.store.set_follow_node(life, node)?;
        self.note_writers();
        self.tell_lives();
        Ok(())
    }

    /// Notes who wrote those of the lives that are followed of which that is not known, as far as their nodes say it in later lives that are here. Whether
    /// anything was noted. What is lost of it is found again with the next start.
    pub(super) fn note_writers(&self) -> bool {
        let followed = self.store.followed();
        let is_nobodys = |life: &OriginId| !self.is_ended(*life);
        let unknown: BTreeSet<OriginId> =
            followed.iter().filter(|(_, life)| life.node == 0).map(|(origin, _)| *origin).filter(is_nobodys).collect();
        if unknown.is_empty() {
            return false;
        }
        let mut claims: BTreeMap<OriginId, BTreeSet<u64>> = BTreeMap::new();
        for (present, life) in followed.iter().filter(|(_, life)| life.node != 0 && life.copy != CopyState::Taking) {
            let walked = self.state_walk_of(*present, LIVES_TREE, |key, _| {
                if let Some(own) = life_of(key).filter(|own| unknown.contains(own)) {
                    claims.entry(own).or_default().insert(life.node);
                }
            });
            if let Err(error) = walked {
                tracing::error!(origin = %present, %error, "which lives are of one node cannot be read; run `edgeway store verify`");
            }
        }
        let mut has_noted = false;
        // Of what two nodes call theirs nothing is known.
        for (life, node) in claims.into_iter().filter_map(|(life, nodes)| Some((life, only(&nodes)?))) {
            match self.store.set_follow_node(life, node) {
                Ok(()) => has_noted = true,
                Err(error) => {
                    tracing::warn!(origin = %life, node, %error, "who wrote a life is not noted; it is tried again with the next start")
                }
            }
        }
        has_noted
    }

    /// The same where commits of others say something new of their lives. The caller holds `showing`.
    pub(super) fn note_writers_by(&self, commits: &[FollowedCommit]) {
        let mut writes = commits.iter().flat_map(|commit| &commit.record.state);
        if writes.any(|write| write.tree == LIVES_TREE) && self.note_writers() {
            self.tell_lives();
        }
    }

    /// Tells observers to look at lives anew. The caller holds `showing`.
    fn tell_lives(&self) {
        let observers: Vec<Arc<dyn Observer>> = self.observers.read().clone();
        observers.iter().for_each(|observer| observer.lives_changed());
    }
}

/// The only one.
fn only(nodes: &BTreeSet<u64>) -> Option<u64> {
    nodes.first().copied().filter(|_| nodes.len() == 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use sled_data::{CommitNumber, MemoryBackend, Options, Store};

    use super::super::Committed;
    use super::super::{Config, EventLog};
    use super::*;
    use crate::clock::Clock;

    fn log(seed: u64, backend: &Arc<MemoryBackend>) -> Arc<EventLog> {
        let options = Options { seed: Some(seed), ..Options::default() };
        let (store, recovered) = Store::on(Arc::clone(backend) as _, options).unwrap();
        EventLog::open(Arc::new(store), Arc::new(Clock::starting_after(recovered.last_hlc)), Config::default()).unwrap()
    }

    fn new_log(seed: u64) -> Arc<EventLog> {
        log(seed, &Arc::new(MemoryBackend::new()))
    }

    async fn put(log: &EventLog, tree: &str, key: &[u8]) {
        let ticket = {
            let mut open = log.lock();
            open.put_state(tree, key, Some(&[1]));
            open.ticket()
        };
        log.durable(ticket).await.unwrap();
    }

    async fn ship(from: &EventLog, to: &EventLog) {
        let next = CommitNumber(to.store.followed_commit(from.origin()).0 + 1);
        to.follow(from.store.commits_to_ship(from.origin(), next, 1 << 20).unwrap()).await.unwrap();
    }

    fn writer(log: &EventLog, life: OriginId) -> Option<u64> {
        let followed = log.store.followed();
        followed.into_iter().find(|(origin, _)| *origin == life).map(|(_, life)| life.node)
    }

    #[derive(Default)]
    struct Told(AtomicUsize);

    impl Observer for Told {
        fn committed(&self, _: &Arc<Committed>) {}

        fn is_listening(&self) -> bool {
            false
        }

        fn lives_changed(&self) {
            self.0.fetch_add(1, Ordering::AcqRel);
        }
    }

    #[tokio::test]
    async fn a_life_that_came_from_others_is_of_the_node_that_names_it() {
        let (ended, present, other) = (new_log(1), new_log(2), new_log(3));
        let backend = Arc::new(MemoryBackend::new());
        let here = log(4, &backend);
        let told = Arc::new(Told::default());
        here.observe(Arc::clone(&told) as _);
        for from in [&ended, &present, &other] {
            put(from, "tree", b"key").await;
            ship(from, &here).await;
        }
        assert_eq!(writer(&here, ended.origin()), Some(0));
        // Nobody has said of the present one who writes it.
        put(&present, LIVES_TREE, &ended.origin().0.to_be_bytes()).await;
        ship(&present, &here).await;
        assert_eq!((writer(&here, ended.origin()), told.0.load(Ordering::Acquire)), (Some(0), 0));
        here.set_writer(present.origin(), 8).unwrap();
        assert_eq!((writer(&here, ended.origin()), told.0.load(Ordering::Acquire)), (Some(8), 1));
        // What is known stays.
        here.set_writer(other.origin(), 9).unwrap();
        put(&other, LIVES_TREE, &ended.origin().0.to_be_bytes()).await;
        ship(&other, &here).await;
        assert_eq!((writer(&here, ended.origin()), told.0.load(Ordering::Acquire)), (Some(8), 2));
        // It comes with a commit; and what two say is nothing.
        let late = new_log(5);
        put(&late, "tree", b"key").await;
        ship(&late, &here).await;
        put(&present, LIVES_TREE, &late.origin().0.to_be_bytes()).await;
        ship(&present, &here).await;
        assert_eq!((writer(&here, late.origin()), told.0.load(Ordering::Acquire)), (Some(8), 3));
        here.store.set_follow_node(late.origin(), 0).unwrap();
        put(&other, LIVES_TREE, &late.origin().0.to_be_bytes()).await;
        ship(&other, &here).await;
        assert_eq!((writer(&here, late.origin()), told.0.load(Ordering::Acquire)), (Some(0), 3));
        // A store that an earlier program has left.
        let old = new_log(6);
        put(&old, "tree", b"key").await;
        ship(&old, &here).await;
        put(&present, LIVES_TREE, &old.origin().0.to_be_bytes()).await;
        ship(&present, &here).await;
        here.store.set_follow_node(old.origin(), 0).unwrap();
        here.store.sync().unwrap();
        here.close();
        let here = log(4, &Arc::new(backend.image()));
        assert_eq!((writer(&here, old.origin()), writer(&here, late.origin())), (Some(8), Some(0)));
        here.close();
        for log in [ended, present, other, late, old] {
            log.close();
        }
    }
}
