//! The newest end of a certificate that each gateway has shown to this node, kept over restarts. One that shows an older one after that is
//! somebody who has a copy of it, or was put back from a copy: it is not renewed, so that a theft ends with what was stolen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;

use crate::event_log::{Act, EventLog};
use crate::transport::{LinkPeer, NodeId};

/// Link and node, 8 bytes each, big-endian, to the version and the end, 8 bytes, big-endian: seconds since 1970, 2^64-1 for ever.
const TREE: &str = "link_certificates";
/// The version byte before a stored value.
const VERSION: u8 = 1;
/// Gateways that are remembered: those of all links, 1,024 with 32 each. Beyond, the one whose certificate ends first is forgotten.
const GATEWAYS_MAX: usize = 32_768;

/// Older certificates of one gateway that are told, each once: who goes on coming with one does not fill the audit topic.
const TOLD_MAX: usize = 8;

/// What each gateway has shown.
pub(super) struct Newest {
    log: Arc<EventLog>,
    ends: Mutex<BTreeMap<(u64, NodeId), u64>>,
    /// The ends of older ones that were told, of gateways that are among the above.
    told: Mutex<BTreeMap<(u64, NodeId), BTreeSet<u64>>>,
}

impl Newest {
    /// Reads what was kept. What cannot be read is taken for not shown.
    pub(super) fn open(log: Arc<EventLog>) -> Self {
        let mut ends = BTreeMap::new();
        let read = log.state_walk_of(log.origin(), TREE, |key, value| match (read_key(key), read_end(value)) {
            (Some(gateway), Some(end)) if ends.len() < GATEWAYS_MAX => drop(ends.insert(gateway, end)),
            _ => tracing::warn!("what a gateway has shown cannot be read"),
        });
        if let Err(error) = read {
            tracing::warn!(%error, "what gateways have shown cannot be read");
        }
        Self { log, ends: Mutex::new(ends), told: Mutex::default() }
    }

    /// Notes that a gateway has shown a certificate that is good until then, and was let in by it; whether it has shown none that is good
    /// for longer. An older one goes to the audit topic, once since the start.
    pub(super) fn shown(&self, peer: LinkPeer, link: &str, until_s: Option<u64>) -> bool {
        let (gateway, end) = ((peer.link, peer.node), until_s.unwrap_or(u64::MAX));
        let mut ends = self.ends.lock();
        match ends.get(&gateway).copied() {
            Some(known) if known > end => {
                drop(ends);
                if self.is_news(gateway, end) {
                    self.tell(peer, link, (end, known));
                }
                return false;
            }
            Some(known) if known == end => return true,
            Some(_) => {}
            None if ends.len() >= GATEWAYS_MAX => {
                if let Some(first) = ends.iter().min_by_key(|(_, end)| **end).map(|(gateway, _)| *gateway) {
                    ends.remove(&first);
                    self.told.lock().remove(&first);
                    self.log.lock().put_state(TREE, &key(first), None);
                }
            }
            None => {}
        }
        ends.insert(gateway, end);
        self.log.lock().put_state(TREE, &key(gateway), Some(&value(end)));
        true
    }

    /// Whether an older certificate of a gateway was not told yet; notes that it is.
    fn is_news(&self, gateway: (u64, NodeId), end: u64) -> bool {
        let mut told = self.told.lock();
        let told = told.entry(gateway).or_default();
        told.len() < TOLD_MAX && told.insert(end)
    }

    fn tell(&self, peer: LinkPeer, link: &str, (shown, newest): (u64, u64)) {
        let node = peer.node.to_string();
        tracing::warn!(link, node, "a gateway has shown an older certificate than before: has somebody a copy of it?");
        let detail = json!({"node": node, "shown_until_s": shown, "newest_until_s": newest});
        let act = Act { who: "node", act: "link.certificate", what: link, outcome: "older", detail };
        if let Err(error) = self.log.audit(act) {
            tracing::warn!(link, %error, "an older certificate is not in the audit topic");
        }
    }
}

fn key((link, node): (u64, NodeId)) -> Vec<u8> {
    [link.to_be_bytes(), node.0.to_be_bytes()].concat()
}

fn value(end: u64) -> Vec<u8> {
    [&[VERSION][..], &end.to_be_bytes()].concat()
}

fn read_key(key: &[u8]) -> Option<(u64, NodeId)> {
    let (link, node) = key.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*link), NodeId(u64::from_be_bytes(node.try_into().ok()?))))
}

fn read_end(value: &[u8]) -> Option<u64> {
    let (&VERSION, end) = value.split_first()? else { return None };
    Some(u64::from_be_bytes(end.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_has_these_bytes() {
        let gateway = (0x0102, NodeId(0x0304));
        assert_eq!(key(gateway), b"\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\x03\x04");
        assert_eq!(value(0x05), b"\x01\0\0\0\0\0\0\0\x05");
        assert_eq!((read_key(&key(gateway)), read_end(&value(7))), (Some(gateway), Some(7)));
        for wrong in [&b""[..], b"\x01", b"\x02\0\0\0\0\0\0\0\x05", b"\x01\0\0\0\0\0\0\0\x05\0"] {
            assert_eq!((read_end(wrong), read_key(wrong)), (None, None), "{wrong:?}");
        }
    }
}
