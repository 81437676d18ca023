//! A plugin's state as its calls see it: what is stored, under what was written
//! since and is not yet durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use devices::twin::Twin;

/// A key of state has at most this many bytes.
pub const KEY_BYTES_MAX: usize = 900;
/// A value of state has at most this many bytes.
pub const VALUE_BYTES_MAX: usize = 32 << 10;
/// One call writes at most this many bytes of keys and values.
pub const CALL_BYTES_MAX: usize = 2 << 20;

/// What state belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The origin of the partition, where another life writes it and the plugin reads each origin apart.
    pub of: Option<u64>,
    /// The partition's number.
    pub partition: u32,
}

/// Where state is stored; keys are of one plugin.
pub trait StateSource: Send + Sync {
    /// The durable value.
    ///
    /// # Errors
    /// The store's error, in words.
    fn get(&self, place: Place, key: &[u8]) -> Result<Option<Vec<u8>>, String>;

    /// A device's durable twin; there is none where no store is behind it.
    ///
    /// # Errors
    /// The store's error, in words.
    fn twin(&self, _device: &str) -> Result<Option<Twin>, String> {
        Ok(None)
    }
}

/// Values by place and key; `None` is a removal.
pub type Writes = BTreeMap<(Place, Vec<u8>), Option<Vec<u8>>>;

/// State of one plugin between two commits.
pub struct PendingState {
    source: Arc<dyn StateSource>,
    /// Of calls that succeeded, for the next commit.
    accepted: Writes,
    accepted_bytes: usize,
    /// Of the running call.
    call: Writes,
    call_bytes: usize,
    place: Place,
}

impl PendingState {
    /// Nothing is written yet.
    #[must_use]
    pub fn new(source: Arc<dyn StateSource>) -> PendingState {
        PendingState {
            source,
            accepted: Writes::new(),
            accepted_bytes: 0,
            call: Writes::new(),
            call_bytes: 0,
            place: Place { of: None, partition: 0 },
        }
    }

    /// A call begins, about a batch whose state belongs to `place`.
    pub fn begin_call(&mut self, place: Place) {
        self.drop_call();
        self.place = place;
    }

    /// The call succeeded: its writes go into the next commit.
    pub fn accept_call(&mut self) {
        self.accepted.append(&mut self.call);
        self.accepted_bytes += self.call_bytes;
        self.call_bytes = 0;
    }

    /// The call failed: its writes never were.
    pub fn drop_call(&mut self) {
        self.call.clear();
        self.call_bytes = 0;
    }

    /// What the next commit writes.
    #[must_use]
    pub fn accepted(&self) -> &Writes {
        &self.accepted
    }

    /// Bytes of keys and values that calls wrote since the last commit.
    pub fn accepted_bytes(&self) -> usize {
        self.accepted_bytes
    }

    /// The commit is durable, or will never be.
    pub fn clear(&mut self) {
        self.drop_call();
        self.accepted.clear();
        self.accepted_bytes = 0;
    }

    /// Reads for the guest.
    ///
    /// # Errors
    /// The store's error, in words.
    pub fn get(&self, key: Vec<u8>) -> Result<Option<Vec<u8>>, String> {
        let place = (self.place, key);
        if let Some(written) = self.call.get(&place).or_else(|| self.accepted.get(&place)) {
            return Ok(written.clone());
        }
        self.source.get(place.0, &place.1)
    }

    /// Reads a device's twin for the guest.
    ///
    /// # Errors
    /// The store's error, in words.
    pub fn twin(&self, device: &str) -> Result<Option<Twin>, String> {
        self.source.twin(device)
    }

    /// Writes for the guest.
    ///
    /// # Errors
    /// Says which bound was passed.
    pub fn put(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) -> Result<(), String> {
        let value_bytes = value.as_ref().map_or(0, Vec::len);
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(format!("a key of state has {} bytes; 1 to {KEY_BYTES_MAX} can be", key.len()));
        }
        if value_bytes > VALUE_BYTES_MAX {
            return Err(format!("a value of state has {value_bytes} bytes; {VALUE_BYTES_MAX} can be"));
        }
        self.call_bytes += key.len() + value_bytes;
        if self.call_bytes > CALL_BYTES_MAX {
            return Err(format!("a call writes more than {CALL_BYTES_MAX} bytes of state"));
        }
        self.call.insert((self.place, key), value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl StateSource for Fixed {
        fn get(&self, place: Place, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
            match (place.partition, key) {
                (_, b"broken") => Err("no disk".into()),
                (3, b"k") => Ok(Some(b"stored".to_vec())),
                _ => Ok(None),
            }
        }
    }

    fn own(partition: u32) -> Place {
        Place { of: None, partition }
    }

    fn get(state: &PendingState, key: &str) -> Option<String> {
        let value = state.get(key.into()).unwrap();
        value.map(|value| String::from_utf8(value).unwrap())
    }

    #[test]
    fn a_call_sees_its_own_writes_and_accepted_ones_of_its_partition() {
        let mut state = PendingState::new(Arc::new(Fixed));
        state.begin_call(own(3));
        assert_eq!(get(&state, "k").as_deref(), Some("stored"));
        state.put(b"k".to_vec(), Some(b"new".to_vec())).unwrap();
        assert_eq!(get(&state, "k").as_deref(), Some("new"));
        state.drop_call();
        assert_eq!(get(&state, "k").as_deref(), Some("stored"), "a failed call wrote nothing");
        state.begin_call(own(3));
        state.put(b"k".to_vec(), None).unwrap();
        state.accept_call();
        state.begin_call(own(3));
        assert_eq!(get(&state, "k"), None);
        state.begin_call(own(4));
        state.put(b"k".to_vec(), Some(b"other".to_vec())).unwrap();
        state.accept_call();
        let accepted: Vec<_> = state.accepted().iter().map(|((p, _), v)| (p.partition, v.is_some())).collect();
        assert_eq!(accepted, [(3, false), (4, true)]);
        state.clear();
        assert!(state.accepted().is_empty());
        assert!(state.get(b"broken".to_vec()).is_err());
    }

    #[test]
    fn bounds_are_told() {
        let mut state = PendingState::new(Arc::new(Fixed));
        assert!(state.put(vec![], None).unwrap_err().contains("0 bytes"));
        assert!(state.put(vec![0; KEY_BYTES_MAX + 1], None).is_err());
        assert!(state.put(vec![0], Some(vec![0; VALUE_BYTES_MAX + 1])).is_err());
        let fill =
            |state: &mut PendingState, n: u32| state.put(n.to_be_bytes().to_vec(), Some(vec![0; VALUE_BYTES_MAX]));
        assert!((0..1000).any(|n| fill(&mut state, n).is_err()));
        state.drop_call();
        assert!(fill(&mut state, 0).is_ok());
    }
}
