//! Up to where somebody has all of a range, partition by partition, as a text to go on with (pure): `ORIGIN/NUMBER:OFFSET`, with
//! commas between them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use sled_data::{Offset, OriginId};

/// Partitions that a position names at most.
const PLACES_MAX: usize = 1_024;

/// The first offset of each partition that is still to come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Position(BTreeMap<(OriginId, u32), Offset>);

/// A text that is no position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no place to go on from: expected ORIGIN/PARTITION:OFFSET, several with commas between them")]
pub struct PositionError(String);

impl Position {
    /// The next offset of a partition, where it is named.
    pub fn next(&self, origin: OriginId, index: u32) -> Option<Offset> {
        self.0.get(&(origin, index)).copied()
    }

    /// Notes the next offset of a partition.
    pub fn set(&mut self, origin: OriginId, index: u32, next: Offset) {
        self.0.insert((origin, index), next);
    }

    /// Every partition, with its next offset.
    pub fn iter(&self) -> impl Iterator<Item = ((OriginId, u32), Offset)> + '_ {
        self.0.iter().map(|(place, next)| (*place, *next))
    }
}

impl FromIterator<((OriginId, u32), Offset)> for Position {
    fn from_iter<T: IntoIterator<Item = ((OriginId, u32), Offset)>>(places: T) -> Self {
        Self(places.into_iter().collect())
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, ((origin, index), next)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{origin}/{index}:{next}")?;
        }
        Ok(())
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let place = |part: &str| {
            let (origin, rest) = part.split_once('/')?;
            let (index, next) = rest.split_once(':')?;
            let origin = (origin.len() == 16).then(|| u64::from_str_radix(origin, 16).ok())??;
            Some(((OriginId(origin), index.parse().ok()?), next.parse().ok()?))
        };
        let parts = text.split(',').filter(|part| !part.is_empty());
        let read: Result<Self, _> =
            parts.map(|part| place(part).ok_or_else(|| PositionError(part.to_owned()))).collect();
        read.and_then(|read| if read.0.len() > PLACES_MAX { Err(PositionError("…".to_owned())) } else { Ok(read) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_a_text_and_back() {
        let position: Position = [((OriginId(0xab), 0), 7), ((OriginId(1), 12), 0)].into_iter().collect();
        let text = "0000000000000001/12:0,00000000000000ab/0:7";
        assert_eq!(position.to_string(), text);
        assert_eq!(text.parse(), Ok(position));
        assert_eq!("".parse(), Ok(Position::default()));
        for wrong in ["x", "1/0:7", "00000000000000ab/0", "00000000000000ab:7", "00000000000000ab/-1:7"] {
            assert_eq!(wrong.parse::<Position>(), Err(PositionError(wrong.to_owned())));
        }
        let many: Vec<String> = (0..=PLACES_MAX).map(|index| format!("00000000000000ab/{index}:1")).collect();
        assert!(many.join(",").parse::<Position>().is_err());
    }
}
