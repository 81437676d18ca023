//! What an edge says on a stream of its link, and what it hears, as `docs/links.md` has it (pure). Written from that page, not
//! with the node's own code: where the two differ, the bench ends with an error.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The version of what is said on a link.
pub const PROTOCOL: u8 = 1;
/// The longest answer that is taken, bytes.
pub const ANSWER_BYTES_MAX: usize = 256 << 10;
/// How long an edge waits for the answer to what it asks.
pub const ANSWER_WAIT: Duration = Duration::from_secs(15);
/// The version byte of what is said when an invitation is accepted.
const INVITATION_VERSION: u8 = 1;

const HELLO: u8 = 1;
const OFFER: u8 = 2;
const TOPIC: u8 = 3;
const WHERE: u8 = 4;
const PARTS: u8 = 5;
const WELCOME: u8 = 16;
const STANDS: u8 = 17;
const STORED: u8 = 18;
const REFUSED: u8 = 19;
/// Of a part: a batch as it is stored.
const BATCH: u8 = 0;
/// A topic's batches are compressed with lz4.
const LZ4: u8 = 1;
/// A stream's priority is `normal`.
const NORMAL: u8 = 1;

/// A partition: origin, topic, index.
pub type Partition = (u64, u64, u32);
/// Where a partition ends: the partition, end, hybrid clock, digest, whether it has no hole.
type Stand = (Partition, u64, u64, u64, bool);

/// What is heard.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The stream goes on.
    Welcome,
    /// Where the partitions end that were asked for, in that order.
    Stands(Vec<u64>),
    /// All up to this number is stored and synced.
    Stored(u64),
}

/// What is sent to accept an invitation.
#[derive(Debug, Serialize)]
pub struct Request<'a> {
    pub secret: [u8; 32],
    pub name: &'a str,
    pub site: u64,
    /// 65 bytes, a point of P-256, uncompressed.
    pub public_key: &'a [u8],
    pub program: &'a str,
    pub protocol: u8,
}

/// What is answered to it.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub enum Invitation {
    Welcome {
        name: String,
        link: u64,
        node: u64,
        site: u64,
        /// In PEM form, as the CA's.
        certificate: String,
        ca: String,
    },
    Refusal {
        code: String,
        text: String,
    },
}

/// The first frame of a stream, from the node `name` of a site.
pub fn hello(site: u64, name: &str, is_first: bool) -> Vec<u8> {
    frame(HELLO, &(PROTOCOL, env!("CARGO_PKG_VERSION"), site, name, NORMAL, is_first))
}

/// An origin that has passed no other site than its own.
pub fn offer(origin: u64, site: u64) -> Vec<u8> {
    frame(OFFER, &(origin, vec![site]))
}

/// A topic of so many partitions.
pub fn topic(id: u64, name: &str, partitions: u32) -> Vec<u8> {
    frame(TOPIC, &(id, name, partitions, LZ4))
}

/// Asks where partitions end.
pub fn ask(partitions: &[Partition]) -> Vec<u8> {
    frame(WHERE, &partitions)
}

/// Batches of one origin, in the order of their partitions.
pub fn parts<'a>(number: u64, origin: u64, batches: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = vec![PARTS];
    out.extend(number.to_be_bytes());
    out.extend(origin.to_be_bytes());
    for batch in batches {
        out.push(BATCH);
        // A batch has 64 KiB.
        out.extend((batch.len() as u32).to_be_bytes());
        out.extend(batch);
    }
    out
}

fn frame(kind: u8, body: &impl Serialize) -> Vec<u8> {
    // Writing numbers and short texts to memory does not fail.
    postcard::to_extend(body, vec![kind]).unwrap_or_default()
}

/// Reads an answer; what is wrong with it, or what upstream refuses.
pub fn answer(frame: &[u8]) -> Result<Answer, String> {
    let (kind, body) = frame.split_first().ok_or("an empty answer")?;
    match *kind {
        WELCOME => read::<(u64, u8)>(body).map(|_| Answer::Welcome),
        STANDS => read::<Vec<Stand>>(body).map(|all| Answer::Stands(all.into_iter().map(|stand| stand.1).collect())),
        STORED => read(body).map(Answer::Stored),
        REFUSED => {
            let (_, _, code, text): (u64, u64, String, String) = read(body)?;
            Err(format!("refused: {text} ({code})"))
        }
        kind => Err(format!("an answer of the unknown kind {kind}")),
    }
}

/// The request for a place upstream.
pub fn request(request: &Request<'_>) -> Vec<u8> {
    postcard::to_extend(request, vec![INVITATION_VERSION]).unwrap_or_default()
}

/// Reads the answer to it.
pub fn invitation(bytes: &[u8]) -> Result<Invitation, String> {
    match bytes.split_first() {
        Some((&INVITATION_VERSION, body)) => read(body),
        _ => Err("an answer of an unknown version".to_owned()),
    }
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        _ => Err("an answer that cannot be read".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_has_these_bytes() {
        let version = env!("CARGO_PKG_VERSION");
        let expected = [&[1, 1, version.len() as u8], version.as_bytes(), &[0xac, 2, 1, b'n', 1, 1]].concat();
        assert_eq!(hello(300, "n", true), expected);
        assert_eq!(offer(5, 300), [2, 5, 1, 0xac, 2]);
        assert_eq!(topic(7, "t", 8), [3, 7, 1, b't', 8, 1]);
        assert_eq!(ask(&[(5, 7, 0), (5, 7, 1)]), [4, 2, 5, 7, 0, 5, 7, 1]);
        let expected =
            [&[5][..], &9_u64.to_be_bytes(), &5_u64.to_be_bytes(), &[0, 0, 0, 0, 2, b'a', b'b', 0, 0, 0, 0, 1, b'c']];
        assert_eq!(parts(9, 5, [&b"ab"[..], b"c"].into_iter()), expected.concat());
    }

    #[test]
    fn answers_are_read_to_their_last_byte() {
        // answer, what it says; none where it is not taken
        let cases: [(&[u8], Option<Answer>); 8] = [
            (&[16, 9, 1], Some(Answer::Welcome)),
            (&[17, 2, 5, 7, 0, 10, 3, 4, 1, 5, 7, 1, 0, 0, 0, 1], Some(Answer::Stands(vec![10, 0]))),
            (&[18, 0xac, 2], Some(Answer::Stored(300))),
            (&[18, 0xac], None),
            (&[18, 1, 1], None),
            (&[19, 5, 0, 1, b'c', 1, b't'], None),
            (&[20], None),
            (&[], None),
        ];
        for (frame, expected) in cases {
            assert_eq!(answer(frame).ok(), expected, "{frame:?}");
        }
        assert_eq!(answer(&[19, 5, 0, 1, b'c', 1, b't']), Err("refused: t (c)".to_owned()));
    }

    #[test]
    fn an_invitation_is_asked_for_and_answered() {
        let asked =
            Request { secret: [0x5e; 32], name: "n", site: 300, public_key: &[4, 5], program: "0.1", protocol: 1 };
        let bytes = [&[1][..], &[0x5e; 32], &[1, b'n', 0xac, 2, 2, 4, 5, 3, b'0', b'.', b'1', 1]].concat();
        assert_eq!(request(&asked), bytes);
        let welcome = Invitation::Welcome {
            name: "p".to_owned(),
            link: 7,
            node: 8,
            site: 9,
            certificate: "C".to_owned(),
            ca: "A".to_owned(),
        };
        assert_eq!(invitation(&[1, 0, 1, b'p', 7, 8, 9, 1, b'C', 1, b'A']), Ok(welcome));
        let refusal = Invitation::Refusal { code: "c".to_owned(), text: "t".to_owned() };
        assert_eq!(invitation(&[1, 1, 1, b'c', 1, b't']), Ok(refusal));
        assert!(invitation(&[2, 0]).is_err());
    }
}
