//! What may come by a link, whether it can be read, and where a partition ends here: pure but for the store that is asked.

use sled_data::{LINK_HOPS_MAX, LinkedError, LinkedPart, OriginId, PartitionId, Store};

use super::begin::Stand;
use super::wire::Refused;

/// Bytes of events of one frame, uncompressed.
const RECORD_BYTES_OF_FRAME_MAX: usize = 256 << 20;

/// Whether the records of all batches can be read, and are those that their envelopes say. Checksums were checked.
///
/// # Errors
/// What is wrong, in words.
pub fn check(parts: &[LinkedPart]) -> Result<(), String> {
    let mut record_bytes = 0;
    for (place, part) in parts.iter().enumerate() {
        let LinkedPart::Batch(batch) = part else { continue };
        let (id, base) = (batch.envelope().partition, batch.base_offset());
        // Before any of it is decompressed.
        record_bytes += batch.envelope().record_bytes as usize;
        if place > 0 && record_bytes > RECORD_BYTES_OF_FRAME_MAX {
            return Err(format!("a frame says to have more than {RECORD_BYTES_OF_FRAME_MAX} bytes of events"));
        }
        match batch.decompress() {
            Ok(records) if records.digest_fits() => {}
            Ok(_) => return Err(format!("the events of {id} from {base} on are not those that were counted")),
            Err(error) => return Err(format!("the events of {id} from {base} on cannot be read: {error}")),
        }
    }
    Ok(())
}

/// Whether an origin that has come by a path may come to this site by a link.
///
/// # Errors
/// The refusal.
pub fn may_come(store: &Store, origin: OriginId, path: &[u64], site: u64, link: u64) -> Result<(), Refused> {
    let refuse = |code: &str, text: String| Err(Refused::new(origin.0, 0, code, text));
    if path.contains(&site) {
        return refuse("loop", format!("origin {origin} has been at this site: its events are not taken back"));
    }
    if path.is_empty() || path.len() > LINK_HOPS_MAX {
        return refuse(
            "loop",
            format!("origin {origin} has passed {} sites; {LINK_HOPS_MAX} are the most", path.len()),
        );
    }
    match store.may_link(origin, link) {
        Ok(()) => Ok(()),
        Err(error @ LinkedError::Ours(_)) => refuse("ours", error.to_string()),
        Err(error @ LinkedError::OtherLink { .. }) => refuse("other-link", error.to_string()),
        Err(error) => refuse("too-many", error.to_string()),
    }
}

/// Where a partition ends here.
pub fn stand(store: &Store, id: PartitionId) -> Stand {
    let reach = store.reach(id);
    let hlc = store.hlc_before(id, reach.end).unwrap_or(0);
    Stand { end: reach.end, hlc, digest: reach.digest, is_gapless: store.holes(id).is_empty() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sled_data::{CommitNumber, Linked, MemoryBackend, Options};

    use super::*;

    #[test]
    fn no_origin_comes_back_or_by_two_links() {
        let backend = Arc::new(MemoryBackend::new());
        let (store, _) = Store::on(backend, Options { seed: Some(1), ..Options::default() }).unwrap();
        let linked = Linked { link: 5, hlc: 0, path: vec![1] };
        store.take_linked(OriginId(50), &linked, &[]).unwrap();
        store.set_follow_node(OriginId(60), 1).unwrap();
        // origin, path, link, the code of the refusal
        let cases = [
            (OriginId(9), vec![1, 2], 5, ""),
            (OriginId(9), vec![1, 7, 2], 5, "loop"),
            (OriginId(9), vec![], 5, "loop"),
            (OriginId(9), vec![1; 16], 5, ""),
            (OriginId(9), vec![1; 17], 5, "loop"),
            (OriginId(50), vec![1], 5, ""),
            (OriginId(50), vec![1], 6, "other-link"),
            (OriginId(60), vec![1], 5, "ours"),
            (store.origin(), vec![1], 5, "ours"),
        ];
        for (origin, path, link, code) in cases {
            let found = may_come(&store, origin, &path, 7, link).err().map_or(String::new(), |refused| refused.code);
            assert_eq!(found, code, "{origin} {path:?} {link}");
        }
        assert_eq!(store.last_commit_of(OriginId(50)), CommitNumber(0), "no stream of commits is kept of it");
    }
}
