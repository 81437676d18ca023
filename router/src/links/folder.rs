//! The edge's end of a link as it is kept: a folder each below `links/`, with the certificate, and what the token said.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::transport::{LinkIdentity, SiteError};

/// The folder of links within the data folder.
pub const LINKS_FOLDER: &str = "links";
/// The file that says where the link goes.
pub const FACTS_FILE: &str = "link.json";
/// The file that is there while people have paused the link.
const PAUSED_FILE: &str = "paused";
/// The end of the name of a folder that is being made.
const UNFINISHED: &str = ".new";

/// Where a link goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// What this site is called upstream.
    pub name: String,
    /// Where nodes of the upstream site are, `HOST:PORT`, as the token said.
    pub addresses: Vec<String>,
}

/// Why a link's folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The certificate.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// A file or the folder.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// What the link's file says.
    #[error("{0} cannot be read; remove the link and accept a new token")]
    Facts(PathBuf),
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> FolderError + '_ {
    |error| FolderError::File { path: path.to_owned(), error }
}

/// The folder of a link of this name.
pub fn folder(data: &Path, name: &str) -> PathBuf {
    data.join(LINKS_FOLDER).join(name)
}

/// The names of all links that this node has accepted.
///
/// # Errors
/// When the folder cannot be read.
pub fn folders(data: &Path) -> Result<Vec<String>, FolderError> {
    let path = data.join(LINKS_FOLDER);
    let entries = match fs::read_dir(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed(&path))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed(&path))?.file_name().to_string_lossy().into_owned();
        if !name.ends_with(UNFINISHED) && super::is_link_name(&name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The link's end, and where it goes.
///
/// # Errors
/// When the folder cannot be used.
pub fn read(folder: &Path) -> Result<(LinkIdentity, Facts), FolderError> {
    let path = folder.join(FACTS_FILE);
    let text = fs::read(&path).map_err(failed(&path))?;
    let facts = serde_json::from_slice(&text).map_err(|_| FolderError::Facts(path))?;
    Ok((LinkIdentity::read(folder)?, facts))
}

/// Whether people have paused the link.
pub fn is_paused(folder: &Path) -> bool {
    folder.join(PAUSED_FILE).exists()
}

/// Notes that people have paused the link, or that it goes on.
///
/// # Errors
/// When the file cannot be made or removed.
pub fn set_paused(folder: &Path, paused: bool) -> Result<(), FolderError> {
    let path = folder.join(PAUSED_FILE);
    let done = if paused { fs::write(&path, b"") } else { fs::remove_file(&path) };
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound && !paused => Ok(()),
        done => done.map_err(failed(&path)),
    }
}

/// Removes the link's end.
///
/// # Errors
/// When it cannot be removed.
pub fn remove(folder: &Path) -> Result<(), FolderError> {
    fs::remove_dir_all(folder).map_err(failed(folder))
}
