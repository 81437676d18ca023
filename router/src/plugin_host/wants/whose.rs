//! Whom a site's plugins were wanted for: the gateways that its link had then, as this node knew them.
//!
//! A link that was removed and invited again has the same name, and other gateways. What another node forgot meanwhile, and this one had
//! said while it was cut off, or heard, is not for them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ENTRIES_AT_ONCE_MAX, Entry, READ_MAX, WantError, Wants, key};

/// The small named tree, its keys: as those of what is wanted.
const WHOSE_TREE: &str = "plugins_below_whose";
/// The version byte before a value.
const VERSION: u8 = 1;

/// What is kept. Frozen: another shape is another version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct WhoseV1 {
    /// Of what was wanted under this number.
    number: u64,
    /// The gateways.
    gateways: Vec<u64>,
}

impl WhoseV1 {
    fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION]).unwrap_or_default()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&VERSION, rest) = bytes.split_first()? else { return None };
        match postcard::take_from_bytes(rest).ok()? {
            (whose, []) => Some(whose),
            _ => None,
        }
    }
}

impl Wants {
    /// Forgets what was wanted for a site none of whose gateways of then is of its link any more, as [`Wants::forget`] does, and notes of the
    /// rest which `gateways` the link has now. Durable on return.
    ///
    /// # Errors
    /// The store's.
    pub fn forget_strangers(&self, gateways: &dyn Fn(&str) -> Vec<u64>) -> Result<(), WantError> {
        let mut last = self.changing.lock();
        let mut before = self.whose()?;
        let (mut strangers, mut notes) = (Vec::<Entry>::new(), Vec::new());
        let all = self.all()?;
        *last = all.iter().map(|(.., want)| want.number).fold(*last, u64::max);
        for (site, name, want) in all.into_iter().filter(|(.., want)| !want.is_gone()) {
            let key = key(&site, &name);
            let (now, whose) = (gateways(&site), before.remove(&key));
            let whose = whose.filter(|whose| whose.number == want.number);
            match &whose {
                Some(WhoseV1 { gateways, .. }) if !gateways.iter().any(|gateway| now.contains(gateway)) => {
                    strangers.push((site, name, want));
                    notes.push((key, None));
                }
                Some(WhoseV1 { gateways, .. }) if *gateways == now => {}
                // A link that nobody has accepted yet has none.
                None if now.is_empty() => {}
                _ => notes.push((key, Some(WhoseV1 { number: want.number, gateways: now }))),
            }
        }
        self.unlink(&mut last, strangers, "the site's link was removed, and is another one now")?;
        // The rest is of what is gone.
        notes.extend(before.into_keys().map(|key| (key, None)));
        notes.chunks(ENTRIES_AT_ONCE_MAX).try_for_each(|chunk| self.note_whose(chunk))
    }

    fn whose(&self) -> Result<BTreeMap<Vec<u8>, WhoseV1>, WantError> {
        let entries = self.log.state_scan(WHOSE_TREE, b"", None, READ_MAX);
        let entries = entries.map_err(|error| WantError::Store(error.to_string()))?;
        Ok(entries.into_iter().filter_map(|(key, value)| Some((key, WhoseV1::decode(&value)?))).collect())
    }

    /// Notes some, at most [`ENTRIES_AT_ONCE_MAX`], or forgets what was noted; durable on return.
    fn note_whose(&self, notes: &[(Vec<u8>, Option<WhoseV1>)]) -> Result<(), WantError> {
        let ticket = {
            let mut open = self.log.lock();
            for (key, whose) in notes {
                open.put_state(WHOSE_TREE, key, whose.as_ref().map(WhoseV1::encode).as_deref());
            }
            open.ticket()
        };
        Ok(self.log.durable_blocking(ticket)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_have_these_bytes() {
        let whose = WhoseV1 { number: 300, gateways: vec![7, 1] };
        assert_eq!(whose.encode(), b"\x01\xac\x02\x02\x07\x01");
        assert_eq!(WhoseV1::decode(&whose.encode()), Some(whose));
        for wrong in [&b""[..], b"\x02\x01\x00", b"\x01\x01", b"\x01\x01\x00\x00"] {
            assert_eq!(WhoseV1::decode(wrong), None, "{wrong:?}");
        }
    }
}
