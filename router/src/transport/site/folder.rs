//! The folder of a node's place in a site: `ca.crt`, `ca.key`, `node.crt`, `node.key`. It is made beside itself and
//! renamed, so that it is there whole or not at all.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::identity::{Admitted, NodeKey, Parts, SiteError, SiteIdentity};
use super::issue;
use crate::transport::NodeId;
use crate::transport::files::{
    KEY_MODE, OPEN_MODE, failed, read_file, read_key_file, sync_folder, unfinished, write_file,
};

pub(super) const CA_CERTIFICATE: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
pub(super) const NODE_CERTIFICATE: &str = "node.crt";
pub(super) const NODE_KEY: &str = "node.key";
/// Largest file of a key or certificate, in bytes.
pub(super) const PEM_BYTES_MAX: u64 = 64 << 10;
/// Largest further file, in bytes.
const FURTHER_BYTES_MAX: u64 = 8 << 20;
/// A folder for its owner alone.
const FOLDER_MODE: u32 = 0o700;

impl SiteIdentity {
    /// Makes a site of one node: its CA, and the node's certificate under it. `name` is the node's, for people.
    ///
    /// # Errors
    /// When the node is of a site already, or a file cannot be made.
    pub fn init(folder: &Path, site: u64, node: NodeId, name: &str) -> Result<Self, SiteError> {
        not_there(folder)?;
        let new = unfinished(folder);
        match fs::remove_dir_all(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(&new, "made")(error).into()),
            _ => {}
        }
        let (ca_key, key) = (issue::key_pair()?, NodeKey::draw()?);
        let admitted = Admitted {
            certificate: issue::node(site, &ca_key, node, name, key.public())?,
            ca: issue::ca(site, &ca_key)?,
            ca_key: ca_key.serialize_pem(),
        };
        Self::install(folder, &admitted, &key, &[])
    }

    /// The place that is kept in a folder; `None` where there is none.
    ///
    /// # Errors
    /// When the folder is there and cannot be used.
    pub fn read(folder: &Path) -> Result<Option<Self>, SiteError> {
        if folder.exists() { load(folder).map(Some) } else { Ok(None) }
    }

    /// Makes the folder of what a node was given, with further files beside it. A crash in between leaves no folder
    /// or a whole one.
    ///
    /// # Errors
    /// When the node is of a site already, what it was given does not belong together, or a file cannot be made.
    pub fn install(
        folder: &Path,
        admitted: &Admitted,
        key: &NodeKey,
        further: &[(&str, &[u8])],
    ) -> Result<Self, SiteError> {
        let key = key.0.serialize_pem();
        let files = [
            (NODE_KEY, key.as_bytes(), KEY_MODE),
            (NODE_CERTIFICATE, admitted.certificate.as_bytes(), OPEN_MODE),
            (CA_KEY, admitted.ca_key.as_bytes(), KEY_MODE),
            (CA_CERTIFICATE, admitted.ca.as_bytes(), OPEN_MODE),
        ];
        make_whole(folder, further, &files, load)
    }

    /// A further file of the folder; `None` where it is not there.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn further(folder: &Path, file: &str) -> Result<Option<Vec<u8>>, SiteError> {
        let path = folder.join(file);
        if path.exists() { Ok(Some(read_file(&path, FURTHER_BYTES_MAX)?)) } else { Ok(None) }
    }

    /// Gives a further file of the folder another name, where it is there. Durable on return.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn rename_further(folder: &Path, file: &str, to: &str) -> Result<(), SiteError> {
        let path = folder.join(file);
        if path.exists() {
            fs::rename(&path, folder.join(to)).map_err(failed(&path, "made"))?;
            sync_folder(folder)?;
        }
        Ok(())
    }
}

impl NodeKey {
    /// The key of a node that is about to join, kept until its folder is made: one that was cut off while it joined
    /// comes back with the same key, by which it is known again.
    ///
    /// # Errors
    /// When the node is of a site already, or the key cannot be read or made.
    pub fn waiting(folder: &Path) -> Result<Self, SiteError> {
        not_there(folder)?;
        let new = unfinished(folder);
        make_folder(&new)?;
        let path = new.join(NODE_KEY);
        if let Ok(pem) = read_key_file(&path, PEM_BYTES_MAX)
            && let Some(key) = std::str::from_utf8(&pem).ok().and_then(|pem| rcgen::KeyPair::from_pem(pem).ok())
            && issue::is_public_key(key.public_key_raw())
        {
            return Ok(Self(key));
        }
        let key = Self::draw()?;
        write_file(&path, key.0.serialize_pem().as_bytes(), KEY_MODE)?;
        Ok(key)
    }
}

/// Makes a folder of these files: beside itself, read once, and renamed. A crash in between leaves no folder or a whole one.
pub(super) fn make_whole<T>(
    folder: &Path,
    further: &[(&str, &[u8])],
    files: &[(&str, &[u8], u32)],
    read: impl FnOnce(&Path) -> Result<T, SiteError>,
) -> Result<T, SiteError> {
    not_there(folder)?;
    let new = unfinished(folder);
    make_folder(&new)?;
    let further = further.iter().map(|(file, bytes)| (*file, *bytes, OPEN_MODE));
    for (file, bytes, mode) in further.chain(files.iter().copied()) {
        write_file(&new.join(file), bytes, mode)?;
    }
    let made = read(&new)?;
    sync_folder(&new)?;
    fs::rename(&new, folder).map_err(failed(folder, "made"))?;
    sync_folder(folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    Ok(made)
}

fn not_there(folder: &Path) -> Result<(), SiteError> {
    if folder.exists() { Err(SiteError::There(folder.to_owned())) } else { Ok(()) }
}

fn make_folder(folder: &Path) -> Result<(), SiteError> {
    let made = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder);
    Ok(made.map_err(failed(folder, "made"))?)
}

fn load(folder: &Path) -> Result<SiteIdentity, SiteError> {
    let text = |file: &'static str, is_key: bool| {
        let path = folder.join(file);
        if !path.exists() {
            return Err(SiteError::Incomplete { folder: folder.to_owned(), file });
        }
        let read = if is_key { read_key_file } else { read_file };
        Ok(String::from_utf8_lossy(&read(&path, PEM_BYTES_MAX)?).into_owned())
    };
    let admitted = Admitted {
        certificate: text(NODE_CERTIFICATE, false)?,
        ca: text(CA_CERTIFICATE, false)?,
        ca_key: text(CA_KEY, true)?,
    };
    let parts = Parts { admitted, key: text(NODE_KEY, true)? };
    SiteIdentity::of(parts).map_err(|what| SiteError::Content { folder: folder.to_owned(), what })
}
