//! Charges: the right and the duty to run a plugin's reading over some partitions under a term, and how they are stored.
//!
//! Tree `charges`, which replicates with the node's commits. Each value is a version byte, 1, and postcard:
//!
//! ```text
//! key                                             value
//! plugin 00 kind origin-or-number                 HeadV1: how the node stands with the charge
//! plugin 00 kind origin-or-number partition-id    SpansV1: who read the partition under which term, from where on
//! ```
//!
//! Kind is 0 for an origin's partitions and 1 for a share of a plugin of scope `site`; what follows has 8 bytes,
//! big-endian. Spans have entries of their own, as those of all partitions would not fit one value.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sled_data::{Offset, OriginId, PARTITION_ID_BYTES, PartitionId};

/// The tree of charges.
pub const CHARGES_TREE: &str = "charges";
/// Spans of one partition that are kept; the oldest go. Events of more take-overs ago all count.
pub const SPANS_MAX: usize = 64;

const KIND_ORIGIN: u8 = 0;
const KIND_SHARE: u8 = 1;
const CHARGE_BYTES: usize = 9;

/// What a charge is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Charge {
    /// The partitions that one life writes.
    Origin(OriginId),
    /// The partitions of this number, of all origins.
    Share(u32),
}

impl Charge {
    /// Whether a partition belongs to it.
    pub fn covers(self, id: PartitionId) -> bool {
        match self {
            Charge::Origin(origin) => id.origin == origin,
            Charge::Share(index) => id.index == index,
        }
    }

    /// Who has it when nobody has taken it over.
    pub fn natural(self) -> Option<OriginId> {
        match self {
            Charge::Origin(origin) => Some(origin),
            Charge::Share(_) => None,
        }
    }

    /// The key of its head.
    pub fn key(self, plugin: &str) -> Vec<u8> {
        let (kind, number) = match self {
            Charge::Origin(origin) => (KIND_ORIGIN, origin.0),
            Charge::Share(index) => (KIND_SHARE, u64::from(index)),
        };
        [plugin.as_bytes(), &[0, kind], &number.to_be_bytes()].concat()
    }

    /// The key of one partition's spans.
    pub fn spans_key(self, plugin: &str, id: PartitionId) -> Vec<u8> {
        [self.key(plugin).as_slice(), &id.to_bytes()].concat()
    }

    /// Plugin, charge and, for spans, the partition of a key.
    pub fn of_key(key: &[u8]) -> Option<(&str, Charge, Option<PartitionId>)> {
        let end = key.iter().position(|byte| *byte == 0)?;
        let plugin = std::str::from_utf8(key.get(..end)?).ok()?;
        let rest = key.get(end + 1..)?;
        let (kind, number) = rest.get(..CHARGE_BYTES)?.split_first()?;
        let number = u64::from_be_bytes(number.try_into().ok()?);
        let charge = match *kind {
            KIND_ORIGIN => Charge::Origin(OriginId(number)),
            KIND_SHARE => Charge::Share(u32::try_from(number).ok()?),
            _ => return None,
        };
        match rest.len() - CHARGE_BYTES {
            0 => Some((plugin, charge, None)),
            PARTITION_ID_BYTES => Some((plugin, charge, Some(PartitionId::from_bytes(rest.get(CHARGE_BYTES..)?)?))),
            _ => None,
        }
    }
}

/// How a node stands with a charge. Frozen: a change makes a `HeadV2`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadV1 {
    /// The life that began it.
    pub life: u64,
    /// The term under which it began last; spans of higher terms do not count yet.
    pub term: Option<u64>,
    /// It does nothing more under this term and those below.
    pub over: Option<u64>,
}

/// Who read a partition, in the order of the terms. Frozen: a change makes a `SpansV2`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpansV1 {
    /// Whether older ones are left out.
    pub is_cut: bool,
    /// At most [`SPANS_MAX`].
    pub spans: Vec<SpanV1>,
}

/// From where on a life reads a partition under a term; up to where the next one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpanV1 {
    /// The term.
    pub term: u64,
    /// What the life derived from this term on counts: it is lower where earlier work stands.
    pub since: u64,
    /// The life.
    pub life: u64,
    /// The first offset.
    pub from: Offset,
}

impl SpansV1 {
    /// The newest span.
    pub fn newest(&self) -> Option<&SpanV1> {
        self.spans.last()
    }

    /// The newest span, where it is of this life.
    pub fn newest_of(&self, life: OriginId) -> Option<&SpanV1> {
        self.newest().filter(|span| span.life == life.0)
    }

    /// The same without those of higher terms.
    #[must_use]
    pub fn up_to(mut self, term: Option<u64>) -> SpansV1 {
        self.spans.retain(|span| Some(span.term) <= term);
        self
    }

    /// The same with one more.
    #[must_use]
    pub fn with(mut self, span: SpanV1) -> SpansV1 {
        self.spans.push(span);
        if self.spans.len() > SPANS_MAX {
            self.spans.remove(0);
            self.is_cut = true;
        }
        self
    }
}

/// A value of the tree.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Postcard of numbers into memory does not fail; an empty value would be refused by `decode`.
    [&[1], postcard::to_allocvec(value).unwrap_or_default().as_slice()].concat()
}

/// Reads a value of the tree.
///
/// # Errors
/// In words: another version, or damaged.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match bytes {
        [1, body @ ..] => postcard::from_bytes(body).map_err(|error| format!("a charge's record is damaged: {error}")),
        [version, ..] => Err(format!("a charge's record has version {version}; this node reads version 1")),
        [] => Err("a charge's record is empty".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sled_data::TopicId;

    const ID: PartitionId = PartitionId { origin: OriginId(1), topic: TopicId(2), index: 3 };

    #[test]
    fn records_have_golden_bytes() {
        let head = HeadV1 { life: 300, term: Some(5), over: None };
        assert_eq!(encode(&head), b"\x01\xac\x02\x01\x05\x00");
        assert_eq!(decode(&encode(&head)), Ok(head));
        let spans = SpansV1::default().with(SpanV1 { term: 5, since: 0, life: 300, from: 129 });
        assert_eq!(encode(&spans), b"\x01\x00\x01\x05\x00\xac\x02\x81\x01");
        assert_eq!(decode(&encode(&spans)), Ok(spans));
        assert!(decode::<HeadV1>(&[2]).unwrap_err().contains("version 2"));
        assert!(decode::<HeadV1>(&[1, 1]).unwrap_err().contains("damaged"));
        assert!(decode::<HeadV1>(&[]).is_err());
    }

    #[test]
    fn keys_come_back() {
        assert_eq!(Charge::Share(7).key("p"), b"p\0\x01\0\0\0\0\0\0\0\x07");
        for charge in [Charge::Origin(OriginId(u64::MAX)), Charge::Share(7)] {
            assert_eq!(Charge::of_key(&charge.key("a-b")), Some(("a-b", charge, None)));
            assert_eq!(Charge::of_key(&charge.spans_key("a-b", ID)), Some(("a-b", charge, Some(ID))));
        }
        for wrong in [&b""[..], b"p", b"p\0", b"p\0\0\0\0\0\0\0\0\0", b"p\0\x02\0\0\0\0\0\0\0\0", &[0; 29]] {
            assert_eq!(Charge::of_key(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_oldest_spans_go() {
        let mut spans = SpansV1::default();
        for term in 0..=SPANS_MAX as u64 {
            assert!(!spans.is_cut);
            spans = spans.with(SpanV1 { term, since: term, life: 1, from: term });
        }
        assert_eq!((spans.spans.len(), spans.spans[0].term, spans.is_cut), (SPANS_MAX, 1, true));
        assert_eq!(spans.clone().up_to(Some(9)).newest().map(|span| span.term), Some(9));
        assert_eq!(spans.clone().up_to(None).newest(), None);
        assert!(encode(&spans).len() < 4096);
    }
}
