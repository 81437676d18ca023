//! The plugins that are deployed: records in the store, components in files.
//!
//! Tree `plugins`: key = the plugin's name; value = version byte 2, then postcard of [`RecordV2`], or as an earlier
//! node wrote it: version byte 1, then postcard of `RecordV1`. Tree `plugin_state`: key = name, 0, partition number
//! (big-endian), the plugin's key; value = the plugin's value. Tree `plugin_state_of`, for partitions that another
//! life writes: key = name, 0, origin, partition number, the plugin's key.

use std::fs;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use devices::twin::{StoredTwin, TWINS_TREE, Twin};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::state::{Place, StateSource};
use crate::catalog::AgreedPlugin;
use crate::event_log::EventLog;

/// The tree of records.
pub const PLUGINS_TREE: &str = "plugins";
/// The tree of the plugins' state.
pub const STATE_TREE: &str = "plugin_state";
/// The tree of the plugins' state of partitions that other lives write.
pub const STATE_OF_TREE: &str = "plugin_state_of";

/// One deployed plugin, as it was before sites agreed on plugins. Frozen.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct RecordV1 {
    manifest: String,
    sha256: [u8; 32],
    deployed_ms: i64,
}

/// One deployed plugin. Frozen: a change makes a `RecordV3`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordV2 {
    /// The manifest, as TOML.
    pub manifest: String,
    /// The component's digest, which names its file.
    pub sha256: [u8; 32],
    /// Wall clock in ms since 1970-01-01 UTC.
    pub deployed_ms: i64,
    /// The change of the catalog by which the plugin was deployed first; 0: nobody has agreed on it.
    pub begun: u64,
    /// The version that was agreed on; 0: none was.
    pub version: u64,
}

impl From<&AgreedPlugin> for RecordV2 {
    fn from(agreed: &AgreedPlugin) -> RecordV2 {
        RecordV2 {
            manifest: agreed.manifest.clone(),
            sha256: agreed.sha256,
            deployed_ms: agreed.deployed_at_ms,
            begun: agreed.begun,
            version: agreed.version,
        }
    }
}

impl From<RecordV1> for RecordV2 {
    fn from(old: RecordV1) -> RecordV2 {
        let RecordV1 { manifest, sha256, deployed_ms } = old;
        RecordV2 { manifest, sha256, deployed_ms, begun: 0, version: 0 }
    }
}

impl RecordV2 {
    /// The tree's value.
    pub fn encode(&self) -> Vec<u8> {
        // Postcard of strings and numbers into memory does not fail; an empty
        // value would be refused by `decode`.
        let body = postcard::to_allocvec(self).unwrap_or_default();
        [&[2], body.as_slice()].concat()
    }

    /// Reads the tree's value.
    ///
    /// # Errors
    /// In words: another version, or damaged.
    pub fn decode(bytes: &[u8]) -> Result<RecordV2, String> {
        let damaged = |error| format!("its record is damaged: {error}");
        match bytes {
            [1, body @ ..] => postcard::from_bytes::<RecordV1>(body).map(RecordV2::from).map_err(damaged),
            [2, body @ ..] => postcard::from_bytes(body).map_err(damaged),
            [version, ..] => Err(format!("its record has version {version}; this node reads 1 and 2")),
            [] => Err("its record is empty".to_owned()),
        }
    }
}

/// The components' files.
pub struct Files {
    folder: PathBuf,
}

impl Files {
    /// Opens the folder, and makes it where it is missing.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(folder: &Path) -> io::Result<Files> {
        fs::create_dir_all(folder)?;
        Ok(Files { folder: folder.to_owned() })
    }

    fn path(&self, sha256: &[u8; 32]) -> PathBuf {
        self.folder.join(format!("{}.wasm", super::hex(sha256)))
    }

    /// Keeps a component; durable on return.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&self, wasm: &[u8], sha256: &[u8; 32]) -> io::Result<()> {
        let path = self.path(sha256);
        let temporary = path.with_extension("new");
        let mut file = fs::File::create(&temporary)?;
        file.write_all(wasm)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        fs::File::open(&self.folder)?.sync_all()
    }

    /// Reads a component back.
    ///
    /// # Errors
    /// In words: the file is missing or not what was deployed.
    pub fn read(&self, sha256: &[u8; 32]) -> Result<Vec<u8>, String> {
        let path = self.path(sha256);
        let wasm = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        if digest(&wasm) == *sha256 {
            return Ok(wasm);
        }
        Err(format!("{} is not what was deployed; deploy the plugin again", path.display()))
    }

    /// A part of a component, `max` bytes at most, and the whole one's length; `None` where it is not here. What is
    /// read is not checked.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read_part(&self, sha256: &[u8; 32], offset: u64, max: u64) -> io::Result<Option<(u64, Vec<u8>)>> {
        let mut file = match fs::File::open(self.path(sha256)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        file.seek(io::SeekFrom::Start(offset))?;
        let mut part = Vec::new();
        let total = file.metadata()?.len();
        file.take(max).read_to_end(&mut part)?;
        Ok(Some((total, part)))
    }

    /// Whether there is a file of that component.
    pub fn has(&self, sha256: &[u8; 32]) -> bool {
        self.path(sha256).is_file()
    }

    /// Removes the files of components that are not in use.
    pub fn sweep(&self, in_use: &[[u8; 32]]) {
        let Ok(files) = fs::read_dir(&self.folder) else { return };
        for path in files.filter_map(|file| file.ok().map(|file| file.path())) {
            let ours = path.extension().is_some_and(|e| e == "wasm" || e == "new");
            if ours && !in_use.iter().any(|sha256| self.path(sha256) == path) {
                let _ = fs::remove_file(&path); // tried again at the next sweep
            }
        }
    }
}

/// The digest that names a component.
pub fn digest(wasm: &[u8]) -> [u8; 32] {
    Sha256::digest(wasm).into()
}

/// A key of [`STATE_TREE`].
pub fn state_key(plugin: &str, partition: u32, key: &[u8]) -> Vec<u8> {
    [plugin.as_bytes(), &[0], &partition.to_be_bytes(), key].concat()
}

/// The tree and the key of a plugin's value.
pub fn placed_key(plugin: &str, place: Place, key: &[u8]) -> (&'static str, Vec<u8>) {
    match place.of {
        None => (STATE_TREE, state_key(plugin, place.partition, key)),
        Some(origin) => {
            let (origin, partition) = (origin.to_be_bytes(), place.partition.to_be_bytes());
            (STATE_OF_TREE, [plugin.as_bytes(), &[0], &origin, &partition, key].concat())
        }
    }
}

/// What all keys of a plugin's state begin with, in either tree.
pub fn state_prefix(plugin: &str) -> Vec<u8> {
    [plugin.as_bytes(), &[0]].concat()
}

/// A plugin's state in the store.
pub struct StoredState {
    pub log: Arc<EventLog>,
    pub plugin: String,
}

impl StateSource for StoredState {
    fn get(&self, place: Place, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let (tree, key) = placed_key(&self.plugin, place, key);
        self.log.state_get(tree, &key).map_err(|error| error.to_string())
    }

    fn twin(&self, device: &str) -> Result<Option<Twin>, String> {
        let stored = self.log.state_of_all(TWINS_TREE, device.as_bytes()).map_err(|error| error.to_string())?;
        let stored = stored.iter().filter_map(|(_, value)| StoredTwin::decode(value));
        let merged = stored.reduce(|one, other| one.merge(&other));
        Ok(merged.filter(StoredTwin::is_there).map(|merged| merged.twin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_golden_bytes() {
        let old = RecordV1 { manifest: "name='a'".into(), sha256: [7; 32], deployed_ms: 300 };
        let golden = [&b"\x01\x08name='a'"[..], &[7; 32], b"\xd8\x04"].concat();
        assert_eq!([&[1], postcard::to_allocvec(&old).unwrap().as_slice()].concat(), golden);
        assert_eq!(RecordV2::decode(&golden), Ok(old.into()));
        let record =
            RecordV2 { manifest: "name='a'".into(), sha256: [7; 32], deployed_ms: 300, begun: 130, version: 2 };
        let golden = [&b"\x02\x08name='a'"[..], &[7; 32], b"\xd8\x04\x82\x01\x02"].concat();
        assert_eq!(record.encode(), golden);
        assert_eq!(RecordV2::decode(&golden), Ok(record));
        assert!(RecordV2::decode(&golden[..9]).unwrap_err().contains("damaged"));
        assert!(RecordV2::decode(&[3, 0]).unwrap_err().contains("version 3"));
        assert!(RecordV2::decode(&[]).is_err());
    }

    #[test]
    fn files_are_checked_and_swept() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(&folder.path().join("plugins")).unwrap();
        let (one, two) = (digest(b"one"), digest(b"two"));
        files.keep(b"one", &one).unwrap();
        files.keep(b"two", &two).unwrap();
        assert_eq!(files.read(&one).unwrap(), b"one");
        assert_eq!(files.read_part(&one, 1, 1).unwrap(), Some((3, b"n".to_vec())));
        assert_eq!(files.read_part(&one, 7, 1).unwrap(), Some((3, vec![])), "after its end");
        assert_eq!(files.read_part(&digest(b"three"), 0, 1).unwrap(), None);
        files.sweep(&[one]);
        assert!(files.read(&two).is_err());
        fs::write(files.path(&one), b"0ne").unwrap();
        assert!(files.read(&one).unwrap_err().contains("not what was deployed"));
    }

    #[test]
    fn no_plugins_keys_are_anothers() {
        assert_eq!(state_key("a", 258, b"k"), b"a\0\0\0\x01\x02k");
        assert!(!state_key("ab", 0, b"").starts_with(&state_prefix("a")));
        let of = Place { of: Some(7), partition: 258 };
        assert_eq!(placed_key("a", of, b"k"), (STATE_OF_TREE, b"a\0\0\0\0\0\0\0\0\x07\0\0\x01\x02k".to_vec()));
    }
}
