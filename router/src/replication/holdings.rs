//! What a node holds of others' origins, as it tells another that asks (pure).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sled_data::{CommitNumber, OriginId};

/// The version that is spoken.
const VERSION: u8 = 1;
/// Origins that one answer names at most.
const ORIGINS_MAX: usize = 2_048;

/// How far each origin is synced here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holdings(pub BTreeMap<OriginId, CommitNumber>);

#[derive(Serialize, Deserialize)]
struct HoldingsV1(Vec<(u64, u64)>);

impl Holdings {
    /// The answer.
    pub fn encode(&self) -> Vec<u8> {
        let all = self.0.iter().map(|(origin, commit)| (origin.0, commit.0)).take(ORIGINS_MAX);
        // Writing numbers to memory does not fail; the reader would say so.
        postcard::to_extend(&HoldingsV1(all.collect()), vec![VERSION]).unwrap_or_default()
    }

    /// Reads an answer; `None` where it is none that is known.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&VERSION, body) = bytes.split_first()? else { return None };
        let (HoldingsV1(all), []) = postcard::take_from_bytes(body).ok()? else { return None };
        let found = all.into_iter().take(ORIGINS_MAX);
        Some(Self(found.map(|(origin, commit)| (OriginId(origin), CommitNumber(commit))).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_these_bytes() {
        let holdings = Holdings([(OriginId(300), CommitNumber(5))].into());
        assert_eq!(holdings.encode(), [1, 1, 0xac, 2, 5]);
        assert_eq!(Holdings::decode(&[1, 1, 0xac, 2, 5]), Some(holdings));
        for wrong in [&[][..], &[2, 0], &[1, 1], &[1, 0, 0]] {
            assert_eq!(Holdings::decode(wrong), None, "{wrong:?}");
        }
    }
}
