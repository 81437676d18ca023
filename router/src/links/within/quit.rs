//! Handing over what links have brought, before this node leaves the site: others must have all that is kept here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sled_data::{Offset, PartitionId, ReadError, Store};
use tokio::time::{Instant, sleep};

use super::Within;
use super::ends::{Asks, Keeps, Lack, WHOLE_MAX, lacks};
use super::level::ask_each;
use crate::links::stand;

/// How often the others are asked again.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// Batches that are tried of what another node lacks, to see whether it can be read here.
const TRIED_MAX: u32 = 1_024;

/// What the others have of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// All who are connected have it, or never will; at least one has it.
    Kept,
    /// One has it; others may have it soon.
    KeptByOne,
    /// None has it; one may have it soon.
    Behind,
    /// None has it, and waiting does not help.
    Never,
}

/// Decides, by what each node lacks that has answered, and whether all have that are connected, and all that stay (pure).
fn judge(lacking: &[Option<Lack>], all_connected: bool, all_staying: bool) -> Verdict {
    let is_kept = lacking.contains(&None);
    let may_come = lacking.contains(&Some(Lack::Behind)) || !all_connected;
    match (is_kept, may_come) {
        (true, false) => Verdict::Kept,
        (true, true) => Verdict::KeptByOne,
        (false, false) if all_staying && !lacking.is_empty() => Verdict::Never,
        (false, _) => Verdict::Behind,
    }
}

/// Says that all is to be with the others, for as long as it lives: also where the one who waits gives up.
struct HandsOver<'a>(&'a AtomicBool);

impl<'a> HandsOver<'a> {
    fn begin(flag: &'a AtomicBool) -> Self {
        flag.store(true, Ordering::Relaxed);
        Self(flag)
    }
}

impl Drop for HandsOver<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Within {
    /// Waits until the nodes that stay have all that links have brought and that is kept here: all that are connected, or after the wait
    /// at least one. No edge may bring more meanwhile.
    ///
    /// # Errors
    /// What is with no other node, in words: after the wait, or at once where waiting does not help.
    pub async fn hand_over(&self, wait: Duration) -> Result<(), String> {
        let _hands_over = HandsOver::begin(&self.hands_over);
        let began = Instant::now();
        let mut open = self.keeps().await?;
        let (all, mut kept) = (open.len(), BTreeSet::new());
        loop {
            let verdicts = self.judge(&open).await;
            kept.extend(verdicts.iter().filter(|(_, verdict)| **verdict == Verdict::KeptByOne).map(|(id, _)| *id));
            open.retain(|id, _| verdicts.get(id) != Some(&Verdict::Kept));
            let never = verdicts.values().filter(|verdict| **verdict == Verdict::Never).count();
            if never > 0 {
                return Err(format!(
                    "{never} of {all} partitions of other sites, brought by links, are whole on no other node, and waiting does not help: \
                     the others have a gap there, or something else. `edgeway node remove` at another node takes this one out all the same, \
                     and what it alone has goes with it"
                ));
            }
            if open.is_empty() {
                return Ok(());
            }
            if began.elapsed() >= wait {
                return match open.keys().filter(|id| !kept.contains(id)).count() {
                    0 => Ok(()),
                    lacking => Err(format!(
                        "{lacking} of {all} partitions of other sites, brought by links, are whole on no other node"
                    )),
                };
            }
            sleep(ASK_EVERY).await;
        }
    }

    /// All that links have brought and that is kept here.
    async fn keeps(&self) -> Result<BTreeMap<PartitionId, Keeps>, String> {
        let log = Arc::clone(&self.log);
        let read = move || {
            let store = log.store();
            let linked = store.partitions().into_iter().filter(|id| store.linked_origin(id.origin).is_some());
            let keeps = |id| {
                let holes = store.holes(id).into_iter().map(|hole| (hole.from, hole.to)).collect();
                // It is with the others when what was missed has come to them as well.
                let ahead = store.parts_ahead(id).last().map_or(0, |last| last.end);
                let stand = stand(store, id);
                (id, Keeps { start: store.reach(id).start, end: ahead.max(stand.end), stand, holes })
            };
            linked.map(keeps).filter(|(_, keeps)| keeps.start < keeps.end).collect()
        };
        tokio::task::spawn_blocking(read).await.map_err(|_| "the node is stopping".to_owned())
    }

    async fn judge(&self, open: &BTreeMap<PartitionId, Keeps>) -> BTreeMap<PartitionId, Verdict> {
        let mut verdicts = BTreeMap::new();
        let Some(nodes) = self.nodes.get() else { return open.keys().map(|id| (*id, Verdict::Behind)).collect() };
        let all: Vec<(PartitionId, &Keeps)> = open.iter().map(|(id, keeps)| (*id, keeps)).collect();
        for some in all.chunks(WHOLE_MAX) {
            // Those alone that stay: two that leave would count on each other.
            let (staying, connected) = (nodes.staying(), nodes.connected());
            let here: Vec<_> = staying.iter().filter(|node| connected.contains(node)).copied().collect();
            let asked = here.len();
            let (ids, stands): (Vec<_>, Vec<_>) = some.iter().map(|(id, keeps)| (*id, keeps.stand)).unzip();
            let answers = ask_each(nodes, here, &Asks::Whole(stands), &ids).await;
            let answers: Vec<_> = answers.into_iter().filter_map(|(_, held)| held.ok()).collect();
            let (all_connected, all_staying) = (answers.len() == asked, answers.len() == staying.len());
            for (place, (id, keeps)) in some.iter().enumerate() {
                let theirs = answers.iter().filter_map(|all| all.get(place));
                let mut lacking: Vec<_> = theirs.map(|held| lacks(keeps, held)).collect();
                for lack in &mut lacking {
                    self.forget_unreadable(*id, lack).await;
                }
                verdicts.insert(*id, judge(&lacking, all_connected, all_staying));
            }
        }
        verdicts
    }

    /// What cannot be read here is not kept here.
    async fn forget_unreadable(&self, id: PartitionId, lack: &mut Option<Lack>) {
        let Some(Lack::Below(ranges)) = lack else { return };
        let (log, ranges) = (Arc::clone(&self.log), ranges.clone());
        let try_all = move || ranges.iter().any(|(from, to)| is_readable(log.store(), id, *from, *to));
        if matches!(tokio::task::spawn_blocking(try_all).await, Ok(false)) {
            *lack = None;
        }
    }
}

/// Whether something of a range can be read.
fn is_readable(store: &Store, id: PartitionId, from: Offset, to: Offset) -> bool {
    let mut next = from;
    for _ in 0..TRIED_MAX {
        if next >= to {
            return false;
        }
        next = match store.read(id, next, 1) {
            Err(ReadError::Trimmed { start, .. }) if start > next => start,
            Err(ReadError::Damaged { to, .. }) if to > next => to,
            // What else goes wrong says nothing of it.
            _ => return true,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_handed_over_when_one_has_it_and_no_other_may_have_it_soon() {
        let (has, behind, below) = (None, Some(Lack::Behind), Some(Lack::Below(vec![(1, 2)])));
        let other = Some(Lack::Other);
        // what the nodes lack that have answered, whether all have that are connected, and that stay
        let cases = [
            (vec![has.clone()], true, true, Verdict::Kept),
            (vec![has.clone()], true, false, Verdict::Kept),
            (vec![has.clone()], false, false, Verdict::KeptByOne),
            (vec![has.clone(), behind.clone()], true, true, Verdict::KeptByOne),
            (vec![has, other.clone()], true, true, Verdict::Kept),
            (vec![behind, below.clone()], true, true, Verdict::Behind),
            (vec![below.clone(), other.clone()], true, true, Verdict::Never),
            (vec![below], true, false, Verdict::Behind),
            (vec![other], false, false, Verdict::Behind),
            (vec![], true, true, Verdict::Behind),
        ];
        for (lacking, all_connected, all_staying, expected) in cases {
            assert_eq!(
                judge(&lacking, all_connected, all_staying),
                expected,
                "{lacking:?} {all_connected} {all_staying}"
            );
        }
    }
}
