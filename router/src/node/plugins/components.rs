//! Components of plugins go from node to node, in parts: a node asks for one by its digest, another one answers.
//!
//! An ask is a version byte 1, the digest, and the offset, 8 bytes, big-endian. An answer is a version byte 1, and 0
//! where the component is not here, or 1, the component's length, 8 bytes, big-endian, and the part from that offset
//! on.

use std::sync::Arc;

use crate::plugin_host::{PluginHost, Wants};
use crate::replication::Pending;
use crate::transport::NodeId;

/// Bytes of a part, at most.
const PART_BYTES_MAX: u64 = 4 << 20;
/// The version that is spoken.
const VERSION: u8 = 1;
const NOT_HERE: u8 = 0;
const PART: u8 = 1;

/// The other nodes, to those that lack a component.
pub trait Components: Send + Sync {
    /// Those that are connected now.
    fn nodes(&self) -> Vec<NodeId>;

    /// Asks one of them. Why there is no answer, in words.
    fn ask(&self, node: NodeId, body: Vec<u8>) -> Pending<'_, Result<Vec<u8>, String>>;
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    sha256: [u8; 32],
    offset: u64,
}

impl Wanted {
    fn encode(&self) -> Vec<u8> {
        [&[VERSION], &self.sha256[..], &self.offset.to_be_bytes()].concat()
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let (&VERSION, body) = body.split_first()? else { return None };
        let (sha256, offset) = body.split_first_chunk::<32>()?;
        Some(Self { sha256: *sha256, offset: u64::from_be_bytes(offset.try_into().ok()?) })
    }
}

fn encode_part(total: u64, part: &[u8]) -> Vec<u8> {
    [&[VERSION, PART], &total.to_be_bytes()[..], part].concat()
}

/// The length of the whole and a part of it; `Ok(None)` where it is not there.
fn decode_part(answer: &[u8]) -> Result<Option<(u64, &[u8])>, String> {
    let read = match answer {
        [VERSION, NOT_HERE] => return Ok(None),
        [VERSION, PART, rest @ ..] => rest.split_first_chunk::<8>(),
        _ => None,
    };
    let (total, part) = read.ok_or_else(|| "it answers in an unknown way; are the versions apart?".to_owned())?;
    Ok(Some((u64::from_be_bytes(*total), part)))
}

/// Answers another node, of a component that runs here, or that a site below is to have.
pub async fn answer(plugins: Arc<PluginHost>, wants: Option<Arc<Wants>>, body: Vec<u8>) -> Vec<u8> {
    let not_here = vec![VERSION, NOT_HERE];
    let Some(wanted) = Wanted::decode(&body) else { return not_here };
    let read = move || {
        let part = plugins.component_part(&wanted.sha256, wanted.offset, PART_BYTES_MAX)?;
        match (part, wants) {
            (None, Some(wants)) => wants.component_part(&wanted.sha256, wanted.offset, PART_BYTES_MAX),
            (part, _) => Ok(part),
        }
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(Some((total, part)))) => encode_part(total, &part),
        Ok(Err(error)) => {
            tracing::warn!(%error, "a plugin's component that another node asks for cannot be read");
            not_here
        }
        Ok(Ok(None)) | Err(_) => not_here,
    }
}

/// Fetches a component of `bytes` bytes, a bounded number, from a node. Whether it is the right one is not checked.
///
/// # Errors
/// In words: the node does not have it, or has something else, or does not answer.
pub async fn fetch(others: &dyn Components, node: NodeId, sha256: [u8; 32], bytes: u64) -> Result<Vec<u8>, String> {
    let mut wasm: Vec<u8> = Vec::new();
    while (wasm.len() as u64) < bytes {
        let offset = wasm.len() as u64;
        let answer = others.ask(node, Wanted { sha256, offset }.encode()).await?;
        let Some((total, part)) = decode_part(&answer)? else { return Err("it does not have it".to_owned()) };
        let is_over = offset + part.len() as u64 > bytes;
        if total != bytes || part.is_empty() || is_over {
            return Err(format!("what it has is {total} bytes long instead of {bytes}, or is cut"));
        }
        wasm.extend_from_slice(part);
    }
    Ok(wasm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_and_answers_have_these_bytes() {
        let wanted = Wanted { sha256: [7; 32], offset: 258 };
        let golden = [&[1][..], &[7; 32], &[0, 0, 0, 0, 0, 0, 1, 2]].concat();
        assert_eq!(wanted.encode(), golden);
        assert_eq!(Wanted::decode(&golden), Some(wanted));
        for wrong in [&golden[1..], &golden[..40], &[golden.as_slice(), &[0]].concat(), &[]] {
            assert_eq!(Wanted::decode(wrong), None, "{wrong:?}");
        }
        let part = [1, 1, 0, 0, 0, 0, 0, 0, 0, 3, b'a', b'b'];
        assert_eq!(encode_part(3, b"ab"), part);
        assert_eq!(decode_part(&part), Ok(Some((3, &b"ab"[..]))));
        assert_eq!(decode_part(&[1, 0]), Ok(None));
        for wrong in [&[][..], &[1], &[2, 0], &[1, 1, 0], &[1, 2]] {
            assert!(decode_part(wrong).is_err(), "{wrong:?}");
        }
    }

    /// Answers each ask with the next of these.
    struct Told(parking_lot::Mutex<Vec<Vec<u8>>>);

    impl Components for Told {
        fn nodes(&self) -> Vec<NodeId> {
            vec![NodeId(1)]
        }

        fn ask(&self, _: NodeId, _: Vec<u8>) -> Pending<'_, Result<Vec<u8>, String>> {
            let next = self.0.lock().pop().ok_or_else(|| "silent".to_owned());
            Box::pin(async move { next })
        }
    }

    #[tokio::test]
    async fn parts_are_put_together_and_what_does_not_fit_is_refused() {
        let part = |total, part: &str| encode_part(total, part.as_bytes());
        let cases = [
            (vec![part(3, "ab"), part(3, "c")], Ok("abc")),
            (vec![part(3, "abc"), part(3, "d")], Ok("abc")),
            (vec![part(3, "ab")], Err("silent")),
            (vec![part(3, "ab"), part(3, "cd")], Err("instead of 3")),
            (vec![part(3, "ab"), part(3, "")], Err("cut")),
            (vec![part(4, "ab")], Err("4 bytes long")),
            (vec![part(1 << 60, "ab")], Err("instead of 3")),
            (vec![vec![1, 0]], Err("does not have it")),
        ];
        for (mut answers, want) in cases {
            answers.reverse();
            let told = Told(parking_lot::Mutex::new(answers));
            match (fetch(&told, NodeId(1), [0; 32], 3).await, want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want.as_bytes()),
                (Err(got), Err(want)) => assert!(got.contains(want), "{got}"),
                (got, want) => panic!("{got:?} instead of {want:?}"),
            }
        }
    }
}
