//! What is said on the stream of one request (pure). What is sent of the range comes in frames of parts, packed ones too, as on the
//! link's other streams.

use serde::{Deserialize, Serialize};
use sled_data::{Offset, OriginId, PartitionId};

use super::super::wire::{PARTITIONS_MAX, Parts, Said, TEXT_BYTES_MAX, WireError, body, partition, plain, with_body};
use super::Position;

/// From the edge: what the range is; how the answer ends.
const BEGINS: u8 = 12;
const ENDS: u8 = 13;
/// From upstream: what is asked for; up to which frame it was handed on.
const ASK: u8 = 24;
const TAKEN: u8 = 25;
/// The version of what is asked.
const VERSION: u8 = 1;
/// Longest name of a topic, bytes: a site's before it, and those of sites that feed that one.
const TOPIC_BYTES_MAX: usize = 4 << 10;

/// Where a range begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum From {
    /// With the oldest event that is kept.
    Start,
    /// At an offset, in each partition.
    Offset(Offset),
    /// At a moment: Unix milliseconds.
    TimeMs(i64),
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The topic, as the edge calls it.
    pub topic: String,
    /// Where the range begins.
    pub from: From,
    /// Before which moment it ends, Unix milliseconds; `None`: with what is there now.
    pub to_ms: Option<i64>,
    /// One partition number alone.
    pub partition: Option<u32>,
    /// Events at most.
    pub events_max: u64,
    /// Where partitions go on that were read before.
    pub after: Position,
    /// The newest dictionary of packed frames that is known upstream; 0: frames are to come as they are stored.
    pub dictionary: u8,
}

#[derive(Serialize, Deserialize)]
struct AskV1 {
    topic: String,
    from: From,
    to_ms: Option<i64>,
    partition: Option<u32>,
    events_max: u64,
    after: Vec<(u64, u32, u64)>,
    dictionary: u8,
}

/// The range of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The partition.
    pub id: PartitionId,
    /// The first offset.
    pub from: Offset,
    /// The first one after the last.
    pub to: Offset,
    /// Where something of the range may be gone, as all before `from` is: when the oldest that is kept came, Unix milliseconds.
    pub oldest_ms: Option<i64>,
}

type SpanV1 = ((u64, u64, u32), u64, u64, Option<i64>);

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All was sent.
    Done,
    /// The topic is not given.
    NotGiven,
    /// There is no such topic.
    NoTopic,
    /// What is asked for is too much at once, or cannot be.
    Wrong,
    /// What was sent was not taken in time.
    Slow,
    /// The edge cannot read it.
    Failed,
}

impl End {
    const ALL: [Self; 6] = [Self::Done, Self::NotGiven, Self::NoTopic, Self::Wrong, Self::Slow, Self::Failed];
}

/// From the edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// What the range is.
    Begins(Vec<Span>),
    /// What comes next of it.
    Parts(Parts),
    /// Nothing more comes, and why, for people.
    Ends(End, String),
}

impl Ask {
    /// The frame.
    pub fn encode(&self) -> Vec<u8> {
        let Self { topic, from, to_ms, partition, events_max, after, dictionary } = self.clone();
        let after = after.iter().map(|((origin, index), next)| (origin.0, index, next)).collect();
        let ask = AskV1 { topic, from, to_ms, partition, events_max, after, dictionary };
        with_body(ASK, &(VERSION, ask))
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(frame: &[u8]) -> Result<Self, WireError> {
        let Some((&ASK, rest)) = frame.split_first() else {
            return Err(WireError::Form("something else than a request"));
        };
        let (version, ask): (u8, AskV1) = body(rest)?;
        if version != VERSION {
            return Err(WireError::Form("a request of another version"));
        }
        if ask.topic.len() > TOPIC_BYTES_MAX || ask.after.len() > PARTITIONS_MAX {
            return Err(WireError::Form("a request names too much"));
        }
        let AskV1 { topic, from, to_ms, partition, events_max, after, dictionary } = ask;
        let after = after.into_iter().map(|(origin, index, next)| ((OriginId(origin), index), next)).collect();
        Ok(Self { topic, from, to_ms, partition, events_max, after, dictionary })
    }
}

/// The frame that says that all up to this number was handed on; 0: that the range is wanted.
pub fn taken(number: u64) -> Vec<u8> {
    with_body(TAKEN, &number)
}

/// Reads it.
///
/// # Errors
/// What is wrong with it.
pub fn read_taken(frame: &[u8]) -> Result<u64, WireError> {
    match frame.split_first() {
        Some((&TAKEN, rest)) => body(rest),
        _ => Err(WireError::Form("its kind is not known")),
    }
}

impl Told {
    /// The frame; that of parts is not packed.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Begins(spans) => {
                let span = |span: &Span| (plain(&span.id), span.from, span.to, span.oldest_ms);
                with_body(BEGINS, &spans.iter().map(span).collect::<Vec<SpanV1>>())
            }
            Self::Parts(parts) => parts.encode(),
            Self::Ends(end, text) => {
                let text = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
                with_body(ENDS, &(*end as u8, text))
            }
        }
    }

    /// Reads a frame that is not packed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(frame: &[u8]) -> Result<Self, WireError> {
        match frame.split_first() {
            Some((&BEGINS, rest)) => {
                let spans: Vec<SpanV1> = body(rest)?;
                if spans.len() > PARTITIONS_MAX {
                    return Err(WireError::Form("it names too many partitions"));
                }
                let span = |(id, from, to, oldest_ms)| Span { id: partition(id), from, to, oldest_ms };
                Ok(Self::Begins(spans.into_iter().map(span).collect()))
            }
            Some((&ENDS, rest)) => {
                let (code, text): (u8, String) = body(rest)?;
                let end =
                    End::ALL.get(usize::from(code)).copied().ok_or(WireError::Form("an end that is not known"))?;
                if text.len() > TEXT_BYTES_MAX {
                    return Err(WireError::Form("its text is too long"));
                }
                Ok(Self::Ends(end, text))
            }
            _ => match Said::decode(frame)? {
                Said::Parts(parts) => Ok(Self::Parts(parts)),
                _ => Err(WireError::Form("its kind does not belong there")),
            },
        }
    }
}

/// The id of a partition of a topic.
#[cfg(test)]
pub fn id(origin: u64, index: u32) -> PartitionId {
    PartitionId { origin: OriginId(origin), topic: sled_data::TopicId(7), index }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask() -> Ask {
        let after = [((OriginId(9), 3), 70)].into_iter().collect();
        let from = From::TimeMs(-5);
        let topic = "telemetry".to_owned();
        Ask { topic, from, to_ms: Some(1_000), partition: Some(2), events_max: 300, after, dictionary: 1 }
    }

    #[test]
    fn what_is_said_is_read_again_and_has_these_bytes() {
        let golden = b"\x18\x01\x09telemetry\x02\x09\x01\xd0\x0f\x01\x02\xac\x02\x01\x09\x03\x46\x01";
        assert_eq!(ask().encode(), golden);
        assert_eq!(Ask::decode(golden), Ok(ask()));
        let spans = vec![Span { id: id(9, 1), from: 2, to: 3, oldest_ms: Some(4) }];
        let cases: [(Told, &[u8]); 3] = [
            (Told::Begins(spans), b"\x0c\x01\x09\x07\x01\x02\x03\x01\x08"),
            (Told::Ends(End::Done, String::new()), b"\x0d\x00\x00"),
            (Told::Ends(End::NotGiven, "no".to_owned()), b"\x0d\x01\x02no"),
        ];
        for (told, golden) in cases {
            assert_eq!(told.encode(), golden, "{told:?}");
            assert_eq!(Told::decode(golden), Ok(told));
        }
        assert_eq!((taken(300), read_taken(b"\x19\xac\x02")), (b"\x19\xac\x02".to_vec(), Ok(300)));
    }

    #[test]
    fn frames_that_are_none_are_refused() {
        let long = Ask { topic: "t".repeat(TOPIC_BYTES_MAX + 1), ..ask() }.encode();
        let mut newer = ask().encode();
        newer[1] = 2;
        let places = (0..=PARTITIONS_MAX as u32).map(|index| ((OriginId(1), index), 0)).collect();
        let many = Ask { after: places, ..ask() }.encode();
        for wrong in [&long[..], &newer, &many, &[], &[ASK], &[BEGINS, 0], &ask().encode()[..9]] {
            assert!(Ask::decode(wrong).is_err(), "{wrong:?}");
        }
        let text = with_body(ENDS, &(0_u8, "t".repeat(TEXT_BYTES_MAX + 1)));
        for wrong in [&text[..], &[ENDS, 9, 0], &[BEGINS], &[ASK, 0], &[1, 0], &[]] {
            assert!(Told::decode(wrong).is_err(), "{wrong:?}");
        }
        assert!(read_taken(&[TAKEN]).is_err() && read_taken(&[ENDS, 1]).is_err());
    }
}
