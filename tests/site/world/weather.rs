//! What goes wrong around the nodes.

use std::collections::{BTreeMap, BTreeSet};

use sled_data::{CommitNumber, Faults, MemoryBackend, OriginId};

use super::{Image, NODES_MAX, World};
use crate::seeded::stores;
use crate::site::catalog::NAMES;
use crate::site::history::Fact;
use crate::site::node::{Disk, Running};

impl World {
    pub(super) fn weather(&mut self) {
        self.links();
        let at = self.random.place(self.nodes.len());
        match self.random.below(1_000) {
            0..12 => self.power_cut(at),
            12..18 => self.kill(at),
            18..34 => self.disk_fault(at),
            34..50 => self.heal_disk(at),
            120..140 if self.nodes[at].running.is_none() => self.heal_disk(at),
            50..60 => self.nodes[at].skew = self.draw_skew(),
            60..70 => self.trim(at),
            70..78 => self.take_image(at),
            78..81 => self.restore(at),
            140..144 => self.copy_node(),
            144..200 => self.retain(at),
            83..86 => self.wipe(at),
            86..90 => self.join_or_leave(at),
            90..94 => self.delete_topic(at),
            94..97 => self.people_look(at),
            97..120 => self.look(at),
            _ => {}
        }
    }

    fn links(&mut self) {
        let ids: Vec<u64> = self.nodes.iter().map(|node| node.id).collect();
        let (a, b) = (ids[self.random.place(ids.len())], ids[self.random.place(ids.len())]);
        match self.random.below(1_000) {
            0..15 if a != b => self.network.part(a, b, &mut self.random),
            15..50 => self.network.join(a, b),
            50..55 => {
                // One node is cut off from all others.
                for other in ids.iter().filter(|other| **other != a) {
                    self.network.part(a, *other, &mut self.random);
                }
            }
            55..62 => ids.iter().for_each(|other| self.network.join(a, *other)),
            62..80 => {
                let open: Vec<u64> = self.network.streams.keys().copied().collect();
                if !open.is_empty() {
                    self.network.cut(open[self.random.place(open.len())], &mut self.random);
                }
            }
            _ => {}
        }
    }

    fn note(&mut self, at: usize, what: &'static str) {
        self.history.note(Fact::Weather { node: self.nodes[at].id, what });
    }

    /// The power goes: what was not synced is lost, but for its first part.
    fn power_cut(&mut self, at: usize) {
        let Some(run) = self.nodes[at].running.take() else { return };
        self.note(at, "power cut");
        self.nodes[at].note_disk(&run);
        self.go_down(at, run, "power cut");
        stores::power_cut(&self.nodes[at].backend, &mut self.random);
        self.nodes[at].disk.faults = Faults::default();
        // What a disk says after the power is back is what is on it.
    }

    /// The process is killed: the machine goes on, and writes what it has.
    fn kill(&mut self, at: usize) {
        if let Some(run) = self.nodes[at].running.take() {
            self.go_down(at, run, "killed");
        }
    }

    fn disk_fault(&mut self, at: usize) {
        let some = Some(self.random.below(30));
        let faults = match self.random.below(5) {
            0 => Faults { full_after_writes: some, ..Faults::default() },
            1 => Faults { fail_after_writes: some, ..Faults::default() },
            2 => Faults { fail_after_syncs: Some(self.random.below(3)), ..Faults::default() },
            3 => Faults { lying_sync: true, ..Faults::default() },
            _ => {
                self.nodes[at].disk.sync_ms = self.random.below(400);
                return self.note(at, "its disk is slow");
            }
        };
        let what = if faults.lying_sync { "its disk lies" } else { "its disk fails or is full" };
        self.set_faults(at, faults);
        self.note(at, what);
    }

    pub(super) fn heal_disk(&mut self, at: usize) {
        self.nodes[at].disk.sync_ms = self.random.below(20);
        self.set_faults(at, Faults::default());
    }

    fn set_faults(&mut self, at: usize, faults: Faults) {
        self.nodes[at].disk.faults = faults.clone();
        self.nodes[at].backend.set_faults(faults);
    }

    /// A node lets old events of its own go, without looking who has them.
    fn trim(&mut self, at: usize) {
        let Some(run) = self.nodes[at].running.take() else { return };
        let own: Vec<_> = run.store.partitions().into_iter().filter(|id| id.origin == run.store.origin()).collect();
        if !own.is_empty() {
            let id = own[self.random.place(own.len())];
            let visible = run.visible.get(&id).copied().unwrap_or(0);
            let upto = self.random.below(visible + 1);
            // One that was cut short is ended when the store is opened.
            let to = match run.store.trim(id, upto, 100) {
                Ok(_) => run.store.start_offset(id),
                Err(_) => upto,
            };
            let before = self.history.trimmed.entry(id).or_default();
            *before = to.max(*before);
        }
        self.nodes[at].note_disk(&run);
        self.nodes[at].running = Some(run);
    }

    /// Somebody makes an image of a disk.
    fn take_image(&mut self, at: usize) {
        let node = &self.nodes[at];
        let Some(life) = self.history.lives.get(node.life) else { return };
        let commits = life.commits.clone();
        let disk = Disk { durable: node.disk.durable.clone(), claimed: node.disk.claimed.clone(), ..Disk::default() };
        let image =
            Image { node: node.id, backend: node.backend.image(), disk, life: node.life, ended: node.ended, commits };
        self.images.retain(|image| image.node != node.id);
        self.images.push(image);
    }

    /// A node's disk is set back to its image.
    fn restore(&mut self, at: usize) {
        let id = self.nodes[at].id;
        let Some(image) = self.images.iter().position(|image| image.node == id) else { return };
        let image = self.images.swap_remove(image);
        if let Some(run) = self.nodes[at].running.take() {
            self.go_down(at, run, "it is set back");
        }
        self.note(at, "its store is set back to an older image");
        self.note_lost(id, &image.disk.durable);
        self.put_back(at, image);
    }

    /// A machine gets the image of another, and joins beside it.
    fn copy_node(&mut self) {
        if self.nodes.len() >= NODES_MAX || self.images.is_empty() {
            return;
        }
        let image = self.images.swap_remove(self.random.place(self.images.len()));
        if self.at(image.node).is_none() {
            return;
        }
        let at = self.add_node(MemoryBackend::new());
        self.note(at, "it has the image of another node");
        self.put_back(at, image);
    }

    fn put_back(&mut self, at: usize, image: Image) {
        let mut life = self.history.lives[image.life].clone();
        self.history.doubtful.insert(life.origin);
        life.commits = image.commits;
        life.node = self.nodes[at].id;
        self.history.lives.push(life);
        self.nodes[at].disk.break_promises();
        let node = &mut self.nodes[at];
        let (sync_ms, broken) = (node.disk.sync_ms, std::mem::take(&mut node.disk.broken));
        node.backend = image.backend;
        // What was written and not synced when the image was made may be in it, and counts for nothing.
        node.disk = Disk { sync_ms, broken, durable: image.disk.durable, ..Disk::default() };
        node.life = self.history.lives.len() - 1;
        node.ended = image.ended;
    }

    fn note_lost(&mut self, node: u64, left: &BTreeMap<OriginId, CommitNumber>) {
        let had: BTreeSet<OriginId> = self.history.lives.iter().map(|life| life.origin).collect();
        for origin in had {
            let after = left.get(&origin).copied().unwrap_or_default();
            self.history.note(Fact::Lost { node, origin: Some(origin), after });
        }
    }

    /// A node loses all; its machine joins as a new node.
    fn wipe(&mut self, at: usize) {
        if self.nodes.len() < 2 {
            return;
        }
        self.note(at, "it is wiped");
        self.leave(at);
        let at = self.add_node(MemoryBackend::new());
        self.note(at, "it joins");
    }

    fn leave(&mut self, at: usize) {
        if let Some(run) = self.nodes[at].running.take() {
            self.go_down(at, run, "it leaves");
        }
        let mut node = self.nodes.remove(at);
        if let Some(life) = self.history.lives.get(node.life) {
            // It counts for what it followed.
            node.disk.durable.remove(&life.origin);
        }
        self.history.note(Fact::Lost { node: node.id, origin: None, after: CommitNumber(0) });
        self.catalog.remove(node.id);
        self.images.retain(|image| image.node != node.id);
        self.graves.insert(node.id, node.disk);
    }

    fn join_or_leave(&mut self, at: usize) {
        if self.random.chance(600) && self.nodes.len() < NODES_MAX {
            let at = self.add_node(MemoryBackend::new());
            self.note(at, "it joins");
        } else if self.nodes.len() > 1 && self.reaches_majority(at) {
            self.note(at, "it leaves");
            self.leave(at);
        }
    }

    fn delete_topic(&mut self, at: usize) {
        if self.nodes[at].running.is_some() && self.reaches_majority(at) {
            let name = NAMES[self.random.place(NAMES.len())];
            let id = self.catalog.delete(name);
            self.history.deleted.insert(id);
            self.note(at, "a topic is deleted");
        }
    }

    /// People look at copies that differ, and let them be followed again.
    pub(super) fn people_look(&mut self, at: usize) {
        if let Some(run) = self.nodes[at].running.as_mut() {
            run.stopped.clear();
        }
    }

    /// People look at copies that still differ, and give them up for new ones. A fork that a node wrote itself, or has
    /// by its image, goes with the node: it joins anew.
    pub(super) fn people_give_up(&mut self, at: usize) {
        let Some(mut run) = self.nodes[at].running.take() else { return };
        let mut has_fork = false;
        for origin in std::mem::take(&mut run.stopped) {
            self.stop_following(&mut run, origin);
            if run.store.followed().iter().any(|(of, _)| *of == origin) {
                self.give_up(at, &mut run, origin);
            } else {
                has_fork = true;
            }
        }
        self.nodes[at].running = Some(run);
        if has_fork {
            self.wipe(at);
        }
    }

    fn give_up(&mut self, at: usize, run: &mut Running, origin: OriginId) {
        if run.store.forget_followed(origin).is_ok() {
            self.history.note(Fact::Lost { node: self.nodes[at].id, origin: Some(origin), after: CommitNumber(0) });
            self.note(at, "a copy that differs is given up");
            self.history.given_up.insert(origin);
            run.cursors.retain(|cursor| cursor.partition.origin != origin);
            run.state.retain(|write| !write.key.starts_with(&origin.0.to_be_bytes()));
            run.visible.retain(|partition, _| partition.origin != origin);
            run.is_reading = !run.state.is_empty();
        }
    }
}
