//! Events that another node may have read before: it may have sent the commands that they cause, and nobody here knows.
//!
//! A node that is lost has read on beyond what the others have of its log. So what is derived again of those events is
//! marked: the commands among it may have arrived, and one that must not be repeated ends as `unknown`.
//!
//! Tree `charge-doubts`, written with the spans of a charge that is begun where one who had it before is gone. The key is
//! that of the spans, the value a version byte, 1, and [`DoubtV1`] in postcard. Of an origin that is read for a lost node
//! all events are in doubt, and nothing is stored.

use serde::{Deserialize, Serialize};
use sled_data::{Offset, OriginId, PartitionId};

use super::carry::Chunk;
use super::charge::{Charge, decode, encode};
use super::fault::Fault;
use super::round::reader_name;
use super::taking_up::head_of;
use super::{duties::Predecessor, taking_up::Reading};
use crate::event_log::EventLog;

/// The tree of doubts.
pub const DOUBTS_TREE: &str = "charge-doubts";

/// Up to where a partition may have been read by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubt {
    /// The life that may have.
    pub life: OriginId,
    /// The first offset that it has not read for certain.
    pub until: Offset,
}

/// What is stored of it. Frozen: a change makes a `DoubtV2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct DoubtV1 {
    /// The term under which the charge was begun: what was stored under another says nothing.
    term: u64,
    life: u64,
    until: Offset,
}

fn store_fault(error: impl std::fmt::Display) -> Fault {
    Fault::Store(error.to_string())
}

impl Doubt {
    /// Writes it with the spans of a partition whose charge is begun under `term`.
    pub fn put(self, chunk: &mut Chunk, spans_key: Vec<u8>, term: u64) {
        let stored = DoubtV1 { term, life: self.life.0, until: self.until };
        chunk.put(DOUBTS_TREE, spans_key, Some(encode(&stored)));
    }

    /// The one that reaches farther.
    fn farther(self, other: Option<Doubt>) -> Doubt {
        other.filter(|other| other.until > self.until).unwrap_or(self)
    }
}

/// What is in doubt of one partition that is read under a charge. `before`: who had it, of a share; `goes_on`: the node reads on what it has
/// written itself.
///
/// # Errors
/// The store's.
pub fn doubt_of(
    log: &EventLog,
    plugin: &str,
    (id, reading): (PartitionId, Reading),
    (before, goes_on): (&[Predecessor], bool),
) -> Result<Option<Doubt>, Fault> {
    let own = log.store().origin();
    let charge = match reading.charge {
        Some(Charge::Origin(origin)) if origin != own && !goes_on => {
            return Ok(Some(Doubt { life: origin, until: Offset::MAX }));
        }
        // It came back with the charge over what the present life writes.
        Some(_) if reading.term > 0 && reading.is_rest(own) => Charge::Origin(own),
        Some(charge) if reading.term > 0 => charge,
        _ => return Ok(None),
    };
    let stored = log.state_get(DOUBTS_TREE, &charge.spans_key(plugin, id)).map_err(store_fault)?;
    let stored = stored.map(|value| decode::<DoubtV1>(&value).map_err(Fault::Store)).transpose()?;
    let stored = stored.filter(|stored| stored.term == reading.term);
    let stored = stored.map(|stored| Doubt { life: OriginId(stored.life), until: stored.until });
    // Who was cut off went on with the events that it wrote itself, until it was told.
    let Some(writer) = before.iter().find(|before| before.life == id.origin && before.life != own) else {
        return Ok(stored);
    };
    let has_ended = head_of(log, writer.life, charge, plugin)?.over >= Some(writer.term);
    let until = match has_ended {
        true => log.store().cursor_of(writer.life, &reader_name(plugin), id).map_err(store_fault)?.unwrap_or(0),
        false => Offset::MAX,
    };
    Ok(Some(Doubt { life: writer.life, until }.farther(stored)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_has_golden_bytes() {
        let doubt = DoubtV1 { term: 5, life: 300, until: 129 };
        assert_eq!(encode(&doubt), b"\x01\x05\xac\x02\x81\x01");
        assert_eq!(decode(&encode(&doubt)), Ok(doubt));
        assert!(decode::<DoubtV1>(&[2]).unwrap_err().contains("version 2"));
    }

    #[test]
    fn the_one_that_reaches_farther_counts() {
        let doubt = |life, until| Doubt { life: OriginId(life), until };
        assert_eq!(doubt(1, 5).farther(None), doubt(1, 5));
        assert_eq!(doubt(1, 5).farther(Some(doubt(2, 9))), doubt(2, 9));
        assert_eq!(doubt(1, 5).farther(Some(doubt(2, 4))), doubt(1, 5));
    }
}
