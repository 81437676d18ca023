//! What goes wrong around sites and links.

use edgeway::links::{Parts, Said};
use sled_data::{LinkedPart, MemoryBackend, Offset, PartitionId};

use super::{Link, Running, World};
use crate::chain::bug::Bug;
use crate::seeded::stores;

/// An hour, and a day, in milliseconds.
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

impl World {
    pub fn weather(&mut self) {
        let at = self.random.place(self.sites.len());
        let link = self.random.place(self.links.len());
        match self.random.below(1_000) {
            0..40 => self.power_cut(at),
            40..50 if self.sites[at].running.is_some() => self.go_down(at, "killed"),
            50..60 => self.links[link].session = None,
            60..70 => self.outage(link),
            70..90 => self.back_up(at),
            90..97 => self.set_back(at),
            97..100 => self.wipe(at),
            100..220 => self.retain(at),
            220..228 => self.let_go(at),
            228..260 => self.spoil(link, "a frame is lost"),
            260..290 => self.spoil(link, "a frame comes twice"),
            290..310 => self.spoil(link, "a frame is damaged"),
            _ => {}
        }
    }

    /// In some seeds writers are set back often, write on where no link is, and retention takes what would show it.
    pub fn storm(&mut self) {
        let Some(mut storms) = self.storms.take() else { return };
        let at = storms.place(self.sites.len());
        match storms.below(1_000) {
            0..40 => self.back_up(at),
            40..60 if self.sites[at].image.is_some() => {
                self.history.met.insert("a storm");
                self.set_back(at);
                let until = self.now + storms.below(10_000);
                self.links.iter_mut().filter(|link| link.from == at).for_each(|link| link.cut_until = until);
            }
            60..110 => self.let_go(at),
            _ => {}
        }
        self.storms = Some(storms);
    }

    /// A backup has nothing that a power cut could take back.
    fn back_up(&mut self, at: usize) {
        self.sync(at);
        self.sites[at].image = Some(self.sites[at].backend.image());
    }

    fn outage(&mut self, link: usize) {
        self.history.met.insert("an outage of days");
        let days = 1 + self.random.below(6);
        self.links[link].cut_until = self.now + self.random.below(20_000);
        // The clocks go on, and what is written meanwhile waits.
        if self.random.chance(300) {
            self.now += days * DAY_MS;
            self.links[link].cut_until += days * DAY_MS;
        }
    }

    /// The power goes: what was not synced is lost, but for its first part.
    fn power_cut(&mut self, at: usize) {
        if self.sites[at].running.is_none() {
            return;
        }
        self.go_down(at, "power cut");
        stores::power_cut(&self.sites[at].backend, &mut self.random);
    }

    /// The store is brought back from a backup.
    fn set_back(&mut self, at: usize) {
        let Some(image) = self.sites[at].image.take() else { return };
        self.go_down(at, "its store is set back");
        self.sites[at].backend = image;
        self.lose(at);
        self.sites[at].was_set_back = true;
    }

    fn wipe(&mut self, at: usize) {
        self.go_down(at, "it is wiped");
        self.sites[at].backend = MemoryBackend::new();
        self.sites[at].image = None;
        self.lose(at);
    }

    /// What the site's lives had written last may be gone.
    fn lose(&mut self, at: usize) {
        self.history.set_back.insert(at);
        let origins = self.sites[at].origins.clone();
        self.history.doubtful.extend(origins);
    }

    /// Retention takes what the links have brought over.
    fn retain(&mut self, at: usize) {
        let Some(running) = self.sites[at].running.take() else { return };
        // What goes within a site holds nothing up, nor what goes down.
        let is_up = |link: &Link| link.from == at && link.within.is_none() && link.down.is_none();
        let links: Vec<usize> = (0..self.links.len()).filter(|number| is_up(&self.links[*number])).collect();
        for (id, log) in &running.logs {
            let known = |link: &usize| running.stored.get(&(*link, *id)).copied().unwrap_or(0);
            let floor = match links.iter().map(known).min() {
                Some(_) if self.has(Bug::RetentionWaitsForNone) => log.visible_end(),
                Some(floor) => floor.min(log.visible_end()),
                None => continue,
            };
            let to = trim(&running, *id, floor);
            let done = self.history.done_with.entry((at, *id)).or_default();
            // What lies in a hole was never here.
            *done = (*done).max(to);
        }
        self.sites[at].running = Some(running);
    }

    /// Retention takes events of the site's own without waiting for links any more.
    fn let_go(&mut self, at: usize) {
        let Some(running) = self.sites[at].running.take() else { return };
        self.history.met.insert("retention waits for nobody");
        let own: Vec<PartitionId> =
            running.logs.keys().filter(|id| id.origin == running.store.origin()).copied().collect();
        for id in own {
            let visible = running.logs[&id].visible_end();
            let upto = self.random.below(visible + 1);
            let to = trim(&running, id, upto);
            let gone = self.history.let_go.entry(id).or_default();
            *gone = (*gone).max(to);
        }
        self.history.tell(self.now, format!("site {at}: retention waits for nobody"));
        self.sites[at].running = Some(running);
    }

    /// Somebody meddles with the frames on their way up, which no stream of QUIC would do.
    fn spoil(&mut self, link: usize, what: &'static str) {
        let Some(session) = &mut self.links[link].session else { return };
        if session.up.is_empty() {
            return;
        }
        self.history.met.insert(what);
        let place = self.random.place(session.up.len());
        match what {
            "a frame is lost" => {
                session.up.remove(place);
                session.is_spoilt = true;
            }
            "a frame comes twice" => session.up.insert(place, session.up[place].clone()),
            _ => damage(&mut session.up[place]),
        }
    }
}

/// Lets batches that end at or before an offset go; where the partition begins then.
fn trim(running: &Running, id: PartitionId, upto: Offset) -> Offset {
    running.store.trim(id, upto, 100).expect("it can be trimmed");
    running.store.sync().expect("it syncs");
    running.store.start_offset(id)
}

/// Flips a bit of the last batch of a frame, where it has one: the rest of a frame has no checksum of its own.
fn damage(frame: &mut [u8]) {
    let ends_with_batch = matches!(Said::decode(frame), Ok(Said::Parts(Parts { parts, .. }))
        if matches!(parts.last(), Some(LinkedPart::Batch(_))));
    if let Some(last) = frame.last_mut().filter(|_| ends_with_batch) {
        *last ^= 1;
    }
}
