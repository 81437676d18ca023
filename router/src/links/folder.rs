//! The edge's end of a link as it is kept: a folder each below `links/`, with the certificate, and what the token said.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
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
/// What the name of a folder begins with that is being removed: no link is called so.
const REMOVED: &str = ".removed-";

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
    #[error("{0} cannot be read")]
    Facts(PathBuf),
    /// The work was not done, or not all of it.
    #[error("the node is stopping; remove the link when it runs again")]
    Stopping,
}

/// Why a link does not start, and what to do about it, for people.
pub fn why_broken(name: &str, error: &FolderError) -> String {
    let what = match error {
        // Of a site's folder it says more, which is wrong here.
        FolderError::Site(SiteError::Incomplete { folder, file }) => format!("{} lacks {file}", folder.display()),
        other => other.to_string(),
    };
    format!(
        "it does not start: {what}; bring that back and `edgeway link resume {name}`, or `edgeway link remove {name}` and \
         accept a new token"
    )
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

/// Notes that people have paused the link, or that it goes on. Durable on return.
///
/// # Errors
/// When the file cannot be made or removed.
pub fn set_paused(folder: &Path, paused: bool) -> Result<(), FolderError> {
    let path = folder.join(PAUSED_FILE);
    let done = if paused { File::create(&path).and_then(|file| file.sync_all()) } else { fs::remove_file(&path) };
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound && !paused => {}
        done => done.map_err(failed(&path))?,
    }
    sync(folder)
}

/// Makes the names in a folder outlive a power cut.
fn sync(folder: &Path) -> Result<(), FolderError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(folder))
}

/// Clears what removals have left that did not come to their end; blocks on the disk.
///
/// # Errors
/// When the folder of links cannot be read, or something cannot be cleared.
pub fn clear_removed(data: &Path) -> Result<(), FolderError> {
    let path = data.join(LINKS_FOLDER);
    let entries = match fs::read_dir(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed(&path))?,
    };
    for entry in entries {
        let entry = entry.map_err(failed(&path))?;
        if entry.file_name().to_string_lossy().starts_with(REMOVED) {
            clear(&entry.path())?;
        }
    }
    Ok(())
}

fn clear(path: &Path) -> Result<(), FolderError> {
    let done = match fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done.map_err(failed(path)),
    }
}

/// The folder of one link, for as long as the link is known. What the link's own task writes goes through here: once it is
/// removed, a folder of that name is another link's.
#[derive(Debug)]
pub struct Place {
    links: PathBuf,
    name: String,
    is_removed: Mutex<bool>,
}

impl Place {
    /// Of a link of this name, in the data folder.
    pub fn new(data: &Path, name: &str) -> Self {
        Self { links: data.join(LINKS_FOLDER), name: name.to_owned(), is_removed: Mutex::new(false) }
    }

    /// Writes to the folder; `None` where it was removed.
    pub fn write<T>(&self, write: impl FnOnce(&Path) -> T) -> Option<T> {
        let is_removed = self.is_removed.lock();
        (!*is_removed).then(|| write(&self.links.join(&self.name)))
    }

    /// Removes the link's end, whole or in part as it is; false where there was none. Durable on return: a crash in between leaves
    /// all of it or none. Blocks on the disk.
    ///
    /// # Errors
    /// When it cannot be removed: it is there as it was, or its name may come back with a power cut. It may be tried again.
    pub fn remove(&self) -> Result<bool, FolderError> {
        // Nothing outside the folder of links is one's.
        if !super::is_link_name(&self.name) || !self.links.exists() {
            return Ok(false);
        }
        let mut is_removed = self.is_removed.lock();
        let (folder, away) = (self.links.join(&self.name), self.links.join(format!("{REMOVED}{}", self.name)));
        clear(&away)?;
        let was_there = match fs::rename(&folder, &away) {
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            done => done.map(|()| true).map_err(failed(&folder))?,
        };
        sync(&self.links)?;
        *is_removed = true;
        if let Err(error) = clear(&away) {
            tracing::warn!(link = self.name, %error, "what was kept of a removed link is cleared at the next start");
        }
        Ok(was_there)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_removed_as_it_is_and_what_its_task_writes_later_is_none_of_the_next_one() {
        let data = tempfile::tempdir().unwrap();
        let (path, links) = (folder(data.path(), "up"), data.path().join(LINKS_FOLDER));
        let names = || {
            let mut all: Vec<_> =
                fs::read_dir(&links).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            all.sort();
            all
        };
        let make = |path: &Path| {
            fs::create_dir_all(path).unwrap();
            fs::write(path.join("renewed.pem"), "old").unwrap();
        };
        assert!(!Place::new(data.path(), "up").remove().unwrap(), "there are no links at all");
        make(&path);
        // A removal that was cut off has left something.
        make(&links.join(format!("{REMOVED}up")));
        make(&links.join(format!("{REMOVED}other")));
        set_paused(&path, true).unwrap();
        assert!(is_paused(&path) && folders(data.path()).unwrap() == ["up"]);
        let place = Place::new(data.path(), "up");
        assert_eq!(place.write(|path| path.join("renewed.pem").exists()), Some(true));
        assert!(place.remove().unwrap() && !place.remove().unwrap());
        assert_eq!(names(), [".removed-other"]);
        clear_removed(data.path()).unwrap();
        assert!(names().is_empty());
        // Another link has the name: what the first one's task has begun to write is not written there.
        make(&path);
        assert_eq!(place.write(|path| fs::write(path.join("renewed.pem"), "first").unwrap()), None);
        assert_eq!(fs::read(path.join("renewed.pem")).unwrap(), b"old");
        // Neither does a name lead elsewhere.
        fs::create_dir(data.path().join("topics")).unwrap();
        assert!(!Place::new(data.path(), "../topics").remove().unwrap() && data.path().join("topics").exists());
    }
}
