//! Recovery: cuts off what no commit record covers, and decides whether a new life begins.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use super::commit::Writer;
use super::commit_stream::last_hlc;
use super::ended::records_that_stay;
use super::gone::drop_in_steps;
use super::kept::KeptRecords;
use super::linked::Hole;
use super::open::{OpenError, Options, Recovered};
use super::partition::{Partition, remove_in_steps};
use super::streams::Streams;
use super::values::{HeaderV1, PartitionV1, TopicV1, VALUE_VERSION, ValueError, read, write};
use super::{Store, StoreFailed};
use super::{keys, space};
use crate::backend::{Backend, Direction, Group, Mark, Span, Tree};
use crate::ids::{CommitNumber, HLC_LOGICAL_BITS, OriginId, PartitionId, TopicId};
use crate::topic::{Durability, TopicInfo};

/// Bits of the step that hybrid clocks make with each opening: a quarter of a second.
const HLC_STEP_BITS: u32 = HLC_LOGICAL_BITS + 8;

pub(super) fn recover(backend: Arc<dyn Backend>, options: Options) -> Result<(Store, Recovered), OpenError> {
    let meta = backend.tree(keys::META_TREE)?;
    let mut draw = Draw::new(options.seed);
    let mut found = Recovered::default();
    let old = match meta.get(keys::HEADER)? {
        Some(value) => Some(read::<HeaderV1>(keys::HEADER, &value).map_err(|e| refuse("the header", e))?),
        None => None,
    };
    found.new_store = old.is_none();
    if old.is_none() && holds_something(&*backend, &*meta)? {
        return Err(OpenError::Damaged("the header is missing".into()));
    }
    let topics = load_topics(&*meta)?;
    let mut partitions = load_partitions(&*backend, &*meta)?;
    let mut header = old.unwrap_or_else(|| HeaderV1 {
        origin: draw.next(),
        previous: 0,
        hlc_floor: 0,
        clean: true,
        memory_topics: false,
    });
    found.clean = header.clean;
    let mut kept = KeptRecords::load(&*meta, OriginId(header.origin), CommitNumber(0))?;
    let lost = lost(&*backend, &header, kept.last(), &options)?;
    let holes = super::linked::load_holes(&*meta)?;
    super::linked::load_aheads(&*meta, &partitions, &holes)?;
    let mut streams = Streams::load(&*meta)?;
    let linked = super::linked::load(&*meta)?;
    let forgotten = super::linked::load_forgotten(&*meta)?;
    found.last_hlc = last_hlc(&*meta, OriginId(header.origin), kept.last())?.max(header.hlc_floor);
    // Nothing was removed so far, for the case that the store is refused.
    for partition in partitions.values() {
        cut(&*backend, partition, &mut found)?;
    }
    drop_orphans(&*backend, &options, &partitions, &mut found)?;
    load_ranges(&*meta, &partitions, holes)?;
    if lost || !header.clean && header.memory_topics {
        found.ended_life = Some(OriginId(header.origin));
        let known = |origin: u64| {
            let id = OriginId(origin);
            header.origin == origin || streams.followed.contains_key(&id) || partitions.keys().any(|p| p.origin == id)
        };
        // By the life that ends: one seed draws the same numbers at each opening.
        let origin = Draw::new(options.seed.map(|seed| seed ^ header.origin)).next_but(known);
        let keep = |of: OriginId| streams.followed.contains_key(&of) || linked.contains_key(&of);
        header.hlc_floor = found.last_hlc;
        begin_life(&*backend, &*meta, &mut header, &mut partitions, &keep, (origin, &options))?;
        kept = KeptRecords::default();
    }
    if !found.new_store {
        found.last_hlc = found.last_hlc.saturating_add(hlc_step(&mut draw));
    }
    streams.load_ended(&*meta, &header, &|of| linked.contains_key(&of))?;
    found.last_commit = kept.last();
    found.extents = extents(&partitions);
    header.clean = false;
    header.memory_topics = topics.values().any(|t| t.config.durability == Durability::Memory);
    put_header(&*meta, &header)?;
    backend.sync()?;
    backend.set_mark(Mark { origin: header.origin, commit: found.last_commit.0 })?;
    // Were it lost by one power cut after another, an old one would speak of a life of which the header knows nothing any more.
    backend.sync_mark()?;
    backend.accept()?;

    let committed = found.last_commit.0;
    let store = Store {
        backend,
        meta,
        origin: OriginId(header.origin),
        topics: RwLock::new(topics),
        deleted: RwLock::default(),
        partitions: RwLock::new(partitions),
        streams: RwLock::new(streams),
        linked: RwLock::new(linked),
        forgotten: RwLock::new(forgotten),
        writer: Mutex::new(Writer::new(header, kept, draw)),
        dropping: Arc::default(),
        trimming: Mutex::new(()),
        committed: committed.into(),
        synced: committed.into(),
        follow_groups: AtomicU64::new(0),
        follow_synced: AtomicU64::new(0),
        holds: AtomicU64::new(0),
        passed_bytes: AtomicU64::new(0),
        failed: OnceLock::<StoreFailed>::new(),
        options,
    };
    Ok((store, found))
}

/// Whether commits are gone that had been synced; an error unless that is accepted.
fn lost(backend: &dyn Backend, header: &HeaderV1, last: CommitNumber, options: &Options) -> Result<bool, OpenError> {
    let Some(mark) = backend.mark() else { return Ok(false) };
    let found = match mark.origin {
        origin if origin == header.origin => last.0,
        // The present life began, and the process ended before it left its first mark.
        origin if origin == header.previous => return Ok(false),
        _ => 0,
    };
    if mark.origin == header.origin && found >= mark.commit {
        return Ok(false);
    }
    if options.accept_loss { Ok(true) } else { Err(OpenError::Shorter { found, synced: mark.commit }) }
}

/// By how much hybrid clocks go on above what is stored, at random: a copied store whose wall clock is behind what is stored would otherwise
/// stamp its next commits as the other store of the image does, and nobody would see by the stamps that the life has forked.
fn hlc_step(draw: &mut Draw) -> u64 {
    draw.next() >> (u64::BITS - HLC_STEP_BITS)
}

/// What refuses to open because of a value.
pub(super) fn refuse(what: &str, error: ValueError) -> OpenError {
    match error {
        ValueError::Newer(found) => OpenError::Newer { found, known: VALUE_VERSION },
        error => OpenError::Damaged(format!("{what}: {error}")),
    }
}

pub(super) fn put_header(meta: &dyn Tree, header: &HeaderV1) -> Result<(), crate::backend::BackendError> {
    let mut value = Vec::new();
    write(keys::HEADER, header, &mut value);
    meta.insert(keys::HEADER, &value)
}

fn holds_something(backend: &dyn Backend, meta: &dyn Tree) -> Result<bool, OpenError> {
    let mut any = backend.tree_names().iter().any(|name| keys::partition_of_tree(name).is_some());
    meta.scan(Span::ALL, Direction::Forward, &mut |_, _| {
        any = true;
        ControlFlow::Break(())
    })?;
    Ok(any)
}

/// Shows all entries of the meta tree whose key begins with `kind`, until one is refused.
pub(super) fn each_of_kind(
    meta: &dyn Tree,
    kind: u8,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), OpenError>,
) -> Result<(), OpenError> {
    let mut result = Ok(());
    meta.scan(Span::between(&[kind], &[kind + 1]), Direction::Forward, &mut |key, value| {
        result = visit(key, value);
        if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    result
}

fn load_topics(meta: &dyn Tree) -> Result<BTreeMap<TopicId, TopicInfo>, OpenError> {
    let mut topics = BTreeMap::new();
    each_of_kind(meta, keys::TOPIC, |key, value| {
        let id = keys::topic_of(key).ok_or_else(|| OpenError::Damaged("a topic's key".into()))?;
        let topic = read::<TopicV1>(key, value).map_err(|e| refuse(&format!("the record of topic {id}"), e))?;
        let config = topic.config().map_err(|e| refuse(&format!("the record of topic {id}"), e))?;
        topics.insert(id, TopicInfo { id, name: topic.name, config });
        Ok(())
    })?;
    Ok(topics)
}

pub(super) type Partitions = HashMap<PartitionId, Arc<Partition>>;

fn load_partitions(backend: &dyn Backend, meta: &dyn Tree) -> Result<Partitions, OpenError> {
    let mut found = Vec::new();
    each_of_kind(meta, keys::PARTITION, |key, value| {
        let id = keys::partition_of(key).ok_or_else(|| OpenError::Damaged("a partition's key".into()))?;
        let extent =
            read::<PartitionV1>(key, value).map_err(|e| refuse(&format!("the record of partition {id}"), e))?;
        found.push((id, extent));
        Ok(())
    })?;
    let mut partitions = HashMap::new();
    for (id, extent) in found {
        let tree = backend.log_tree(&keys::partition_tree(id))?;
        partitions.insert(id, Arc::new(Partition::new(id, tree, extent)));
    }
    Ok(partitions)
}

/// Removes batches past the end, of a commit that did not finish, and before the start, of a trim that did not.
fn cut(backend: &dyn Backend, partition: &Partition, found: &mut Recovered) -> Result<(), OpenError> {
    let extent = partition.extent();
    let mut removed = partition.remove_past(extent.end)?;
    // The disk may be full: that is why it was trimmed.
    removed += remove_in_steps(partition.tree(), 0, Some(extent.start), &|| backend.sync())?;
    if removed > 0 {
        found.cut.push((partition.id, removed));
    }
    Ok(())
}

/// The holes and late ranges of linked partitions. Those that reach past all that is there are of a part ahead that is forgotten: what comes there now is not
/// to be hidden by them.
fn load_ranges(
    meta: &dyn Tree,
    partitions: &Partitions,
    holes: HashMap<PartitionId, Vec<Hole>>,
) -> Result<(), OpenError> {
    let reach = |partition: &Partition| partition.aheads().last().map_or(partition.extent().end, |part| part.end);
    for (id, mut holes) in holes {
        let Some(partition) = partitions.get(&id) else { continue };
        let upto = reach(partition);
        for gone in holes.extract_if(.., |hole| hole.to > upto) {
            meta.remove(&keys::hole(id, gone.from))?;
        }
        partition.set_holes(holes.into());
    }
    for (id, mut late) in super::linked::load_late(meta)? {
        let Some(partition) = partitions.get(&id) else { continue };
        let upto = reach(partition);
        for gone in late.extract_if(.., |range| range.to > upto) {
            meta.remove(&keys::late(id, gone.from))?;
        }
        partition.set_late(late.into());
    }
    Ok(())
}

fn drop_orphans(
    backend: &dyn Backend,
    options: &Options,
    partitions: &Partitions,
    found: &mut Recovered,
) -> Result<(), OpenError> {
    let is_tight = || space::is_tight(backend, options);
    for name in backend.tree_names() {
        if keys::partition_of_tree(&name).is_some_and(|id| !partitions.contains_key(&id)) {
            drop_in_steps(backend, &*backend.tree(&name)?, &name, &|| true, &is_tight)?;
            found.dropped_trees += 1;
        }
    }
    Ok(())
}

/// Begins the life `origin`. Of own lives before the one that ends, commit records go but for those that others may come for; so do partitions
/// that never held anything. What retention has emptied stays for it to drop, with the cursors there, once all are told. Followed origins stay as they are. An opening that fails behind this has begun it all the same: the next one goes on with it, as nothing was acknowledged in it,
/// and does not end it too, with the records of the life before.
fn begin_life(
    backend: &dyn Backend,
    meta: &dyn Tree,
    header: &mut HeaderV1,
    partitions: &mut Partitions,
    others: &dyn Fn(OriginId) -> bool,
    (origin, options): (u64, &Options),
) -> Result<(), OpenError> {
    let mut group = Group::new();
    let is_older = |of: OriginId| of.0 != header.origin && !others(of);
    let stay = records_that_stay(meta, partitions, &is_older, options)?;
    let stays = |of: OriginId, commit: CommitNumber| stay.get(&of).is_some_and(|from| commit >= *from);
    each_of_kind(meta, keys::COMMIT, |key, _| {
        if keys::commit_of(key).is_none_or(|(of, commit, _)| is_older(of) && !stays(of, commit)) {
            group.remove(key);
        }
        Ok(())
    })?;
    let own = partitions.values().filter(|p| !others(p.id.origin));
    let empty: HashSet<PartitionId> = own.filter(|p| p.extent().end == 0).map(|p| p.id).collect();
    for id in &empty {
        group.remove(&keys::partition(*id));
    }
    header.previous = std::mem::replace(&mut header.origin, origin);
    header.memory_topics = false;
    let mut value = Vec::new();
    write(keys::HEADER, header, &mut value);
    group.put(keys::HEADER, &value);
    meta.apply(&group)?;
    for id in empty {
        partitions.remove(&id);
        backend.drop_tree(&keys::partition_tree(id))?;
    }
    Ok(())
}

fn extents(partitions: &Partitions) -> Vec<(PartitionId, u64, u64)> {
    let mut all: Vec<_> = partitions.values().map(|p| (p.id, p.extent().start, p.extent().end)).collect();
    all.sort_unstable();
    all
}

/// Where random ids come from.
pub(super) struct Draw {
    seed: Option<u64>,
}

impl Draw {
    pub(super) fn new(seed: Option<u64>) -> Draw {
        Draw { seed }
    }

    /// A random number that is not `taken`.
    fn next_but(&mut self, taken: impl Fn(u64) -> bool) -> u64 {
        loop {
            let drawn = self.next();
            if !taken(drawn) {
                return drawn;
            }
        }
    }

    /// A random number that is not 0.
    pub(super) fn next(&mut self) -> u64 {
        loop {
            let drawn = match &mut self.seed {
                Some(state) => {
                    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                    xxhash_rust::xxh3::xxh3_64(&state.to_be_bytes())
                }
                // Without the system's randomness there is the address-randomised hasher's.
                None => getrandom::u64().unwrap_or_else(|_| {
                    use std::hash::{BuildHasher, RandomState};
                    RandomState::new().hash_one(std::process::id())
                }),
            };
            if drawn != 0 {
                return drawn;
            }
        }
    }
}
