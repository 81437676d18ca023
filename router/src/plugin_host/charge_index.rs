//! What is known here of charges, own and of followed lives, for all who read derived events.
//!
//! Nothing is read or parsed while no charge was ever taken over. The index is read anew when a commit, own or
//! followed, has written a charge.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use devices::headers;
use parking_lot::RwLock;
use sled_data::{FollowedCommit, HeadersRef, Offset, OriginId, PartitionId, ReadError};

use super::cause::DerivedFrom;
use super::charge::{CHARGES_TREE, Charge, HeadV1, SpansV1, decode};
use super::duties::Duties;
use super::overridden::{Derived, Verdict, judge};
use super::round::reader_name;
use crate::event_log::{Committed, EventLog, Observer};
use crate::transport::NodeId;

/// Entries of the tree that are read at once.
const SCAN_MAX: usize = 512;

/// The newest spans of each partition, by plugin.
type Spans = HashMap<String, HashMap<PartitionId, (Charge, SpansV1)>>;

/// What is stored.
#[derive(Debug, Default)]
struct Known {
    spans: Spans,
    /// The newest term under which each charge over an origin was begun, by plugin.
    begun: HashMap<String, HashMap<OriginId, u64>>,
    /// Who writes the lives of which that is known; `None` for this node.
    writers: HashMap<OriginId, Option<u64>>,
}

impl Known {
    /// Whether two lives are of one node, as far as is known here, on `me`.
    fn is_same_node(&self, one: OriginId, other: OriginId, me: NodeId) -> bool {
        // A life of this node's own may be followed back, or known of by others alone.
        let node = |life: OriginId| self.writers.get(&life).map(|node| node.unwrap_or(me.0)).filter(|node| *node != 0);
        match (node(one), node(other)) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        }
    }
}

/// What the site has decided, which may not be carried out yet.
#[derive(Debug, Default)]
struct Decided {
    /// This node; 0 while it knows of no site.
    me: NodeId,
    origins: BTreeMap<OriginId, u64>,
    /// Earlier lives, each with the one whose charge is over it.
    earlier: BTreeMap<OriginId, OriginId>,
    shares: BTreeMap<(String, u32), u64>,
}

/// The index. One per node.
pub struct ChargeIndex {
    log: Arc<EventLog>,
    stale: Arc<Stale>,
    known: RwLock<Arc<Known>>,
    decided: RwLock<Arc<Decided>>,
    /// Plugins that run here; nobody waits for what others are to say.
    plugins: RwLock<HashSet<String>>,
}

/// Rings when a followed commit has written a charge, or a copy has come that may hold some.
struct Stale(AtomicBool);

impl Observer for Stale {
    fn committed(&self, _committed: &Arc<Committed>) {}

    fn is_listening(&self) -> bool {
        false
    }

    fn followed(&self, commits: &[FollowedCommit]) {
        if commits.iter().any(|commit| commit.record.state.iter().any(|write| write.tree == CHARGES_TREE)) {
            self.0.store(true, Ordering::Release);
        }
    }

    fn copied(&self, _: OriginId) {
        self.0.store(true, Ordering::Release);
    }

    fn lives_changed(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl ChargeIndex {
    /// Reads what is stored when it is first asked.
    pub fn new(log: Arc<EventLog>) -> Arc<ChargeIndex> {
        let stale = Arc::new(Stale(AtomicBool::new(true)));
        log.observe(Arc::clone(&stale) as _);
        Arc::new(ChargeIndex {
            log,
            stale,
            known: RwLock::default(),
            decided: RwLock::default(),
            plugins: RwLock::default(),
        })
    }

    /// Takes up what the site has decided; reads the charges anew, as a copy of an origin may have come.
    pub fn set_duties(&self, duties: &Duties) {
        let (origins, shares) = (duties.origin_terms.clone(), duties.share_terms.clone());
        let earlier = duties.earlier.iter().map(|(life, earlier)| (*life, earlier.of)).collect();
        *self.decided.write() = Arc::new(Decided { me: duties.me, origins, earlier, shares });
        self.refresh();
    }

    /// Notes that charges were written.
    pub fn refresh(&self) {
        self.stale.0.store(true, Ordering::Release);
    }

    /// Notes that a plugin runs here, or no more.
    pub fn set_running(&self, plugin: &str, runs: bool) {
        let mut plugins = self.plugins.write();
        if runs {
            plugins.insert(plugin.to_owned());
        } else {
            plugins.remove(plugin);
        }
    }

    /// What to judge events by, for one run of them; `None` where all count: nothing is to be looked at then.
    ///
    /// # Errors
    /// The store cannot be read; it is tried again at the next call.
    pub fn view(&self) -> Result<Option<View<'_>>, ReadError> {
        let known = self.fresh()?;
        let decided = Arc::clone(&self.decided.read());
        if known.spans.is_empty() && decided.origins.is_empty() && decided.shares.is_empty() {
            return Ok(None);
        }
        Ok(Some(View { index: self, known, decided }))
    }

    fn fresh(&self) -> Result<Arc<Known>, ReadError> {
        if self.stale.0.load(Ordering::Acquire) {
            let mut known = self.known.write();
            // Under the lock: who finds it fresh meanwhile waits for what is being read.
            if self.stale.0.swap(false, Ordering::AcqRel) {
                *known = Arc::new(self.read().inspect_err(|_| self.refresh())?);
            }
        }
        Ok(Arc::clone(&self.known.read()))
    }

    fn read(&self) -> Result<Known, ReadError> {
        let store = self.log.store();
        let mut known = Known::default();
        let followed = store.followed();
        let written = followed.iter().filter(|(_, life)| life.node != 0).map(|(life, at)| (*life, Some(at.node)));
        let own = self.log.ended_lives().iter().copied().chain([store.origin()]).map(|life| (life, None));
        known.writers = written.chain(own).collect();
        for life in followed.iter().map(|(life, _)| *life).chain([store.origin()]) {
            self.read_life(life, &mut known)?;
        }
        Ok(known)
    }

    fn read_life(&self, life: OriginId, known: &mut Known) -> Result<(), ReadError> {
        let mut after: Option<Vec<u8>> = None;
        // The newest head: it stands before its partitions, and may be missing.
        let mut head: Option<(String, Charge, Option<u64>)> = None;
        loop {
            let entries = self.log.store().state_scan_of(life, CHARGES_TREE, b"", after.as_deref(), SCAN_MAX)?;
            for (key, value) in &entries {
                match Charge::of_key(key) {
                    Some((plugin, charge, None)) => {
                        let term = sound::<HeadV1>(value).and_then(|head| head.term);
                        if let (Charge::Origin(origin), Some(term)) = (charge, term) {
                            let begun = known.begun.entry(plugin.to_owned()).or_default().entry(origin).or_default();
                            *begun = term.max(*begun);
                        }
                        head = Some((plugin.to_owned(), charge, term));
                    }
                    Some((plugin, charge, Some(id))) => {
                        // Spans of a charge that is just being begun do not count.
                        let own = head.as_ref().filter(|(of, head, _)| of == plugin && *head == charge);
                        let term = own.and_then(|(_, _, term)| *term);
                        let spans = sound::<SpansV1>(value).map(|spans| spans.up_to(term));
                        let counting = spans.filter(|spans| !spans.spans.is_empty());
                        counting.into_iter().for_each(|spans| keep_newer(&mut known.spans, plugin, charge, id, spans));
                    }
                    None => tracing::error!(%life, "a charge's key cannot be read"),
                }
            }
            if entries.len() < SCAN_MAX {
                return Ok(());
            }
            after = entries.last().map(|(key, _)| key.clone());
        }
    }
}

fn sound<T: serde::de::DeserializeOwned>(value: &[u8]) -> Option<T> {
    decode(value).inspect_err(|error| tracing::error!(error, "a charge is passed over")).ok()
}

fn keep_newer(known: &mut Spans, plugin: &str, charge: Charge, id: PartitionId, spans: SpansV1) {
    let age = |spans: &SpansV1| (spans.newest().map(|span| span.term), spans.spans.len());
    let of_plugin = known.entry(plugin.to_owned()).or_default();
    match of_plugin.get(&id) {
        Some((_, before)) if age(before) > age(&spans) => {}
        _ => drop(of_plugin.insert(id, (charge, spans))),
    }
}

/// The index at one moment.
pub struct View<'a> {
    index: &'a ChargeIndex,
    known: Arc<Known>,
    decided: Arc<Decided>,
}

impl View<'_> {
    /// Judges an event with these headers that stands in a partition which `life` writes. One without a cause counts.
    pub fn verdict(&self, life: OriginId, headers: HeadersRef<'_>) -> Verdict {
        let cause = headers.get(headers::CAUSE).and_then(DerivedFrom::parse);
        let Some(cause) = cause else { return Verdict::Counts };
        let decided = self.decided_term(&cause);
        let found = self.index.log.topic(cause.topic).and_then(|topic| {
            let id = PartitionId { origin: cause.origin, topic: topic.id(), index: cause.partition };
            let (charge, spans) = self.known.spans.get(cause.plugin)?.get(&id)?;
            Some((id, *charge, spans))
        });
        let event =
            |natural, by_its_node| Derived { life, natural, by_its_node, term: cause.term, offset: cause.offset };
        match found {
            Some((id, charge, spans)) => {
                // Of an earlier life, what its node has derived before the first span counts, and what that did beyond the others never.
                let natural = charge.natural().filter(|_| charge.covers(id));
                let later = charge.natural().filter(|_| !charge.covers(id));
                let by_its_node = later.map(|later| self.known.is_same_node(life, later, self.decided.me));
                let event = event(natural, by_its_node);
                judge(event, spans, decided, |holder| self.index.done_to(holder, cause.plugin, id))
            }
            None => judge(event(None, None), &SpansV1::default(), decided, |_| 0),
        }
    }

    fn decided_term(&self, cause: &DerivedFrom<'_>) -> u64 {
        if !self.index.plugins.read().contains(cause.plugin) {
            return 0;
        }
        let share = (!self.decided.shares.is_empty())
            .then(|| self.decided.shares.get(&(cause.plugin.to_owned(), cause.partition)))
            .flatten();
        if let Some(term) = share.or_else(|| self.decided.origins.get(&cause.origin)) {
            return *term;
        }
        let Some(of) = self.decided.earlier.get(&cause.origin) else { return 0 };
        let decided = self.decided.origins.get(of).copied().unwrap_or(0);
        let begun = self.known.begun.get(cause.plugin).and_then(|begun| begun.get(of));
        // Who has begun has said where, of each partition; or is of an older program, and reads nothing of earlier lives.
        if begun.is_some_and(|begun| *begun >= decided) { 0 } else { decided }
    }

    /// The newest spans known of a partition.
    pub fn spans(&self, plugin: &str, id: PartitionId) -> Option<&SpansV1> {
        self.known.spans.get(plugin)?.get(&id).map(|(_, spans)| spans)
    }
}

impl ChargeIndex {
    /// How far a life is known to have read a partition for a plugin.
    fn done_to(&self, life: OriginId, plugin: &str, id: PartitionId) -> Offset {
        // A store that cannot be read tells so elsewhere; until then the event waits.
        self.log.store().cursor_of(life, &reader_name(plugin), id).ok().flatten().unwrap_or(0)
    }
}
