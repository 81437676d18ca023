//! A disk as the recorder saw it: what was synced is sure, of the rest anything may be there after a power cut.

use std::collections::BTreeMap;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A disk writes this many bytes at once or not at all.
const SECTOR_BYTES: usize = 512;

/// One recorded call.
#[derive(Debug)]
pub struct Call {
    pub kind: Kind,
    pub path: PathBuf,
    pub at: u64,
    pub data: Vec<u8>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Create,
    Write,
    Truncate,
    Rename,
    Unlink,
    Mkdir,
    SyncBegin,
    SyncEnd,
}

/// Reads the recorder's log; a call that was cut short is left out.
pub fn parse(mut log: &[u8]) -> Vec<Call> {
    let mut calls = Vec::new();
    while log.len() >= 24 {
        let number = |at: usize, len: usize| log[at..at + len].iter().rev().fold(0_u64, |n, b| n << 8 | u64::from(*b));
        let (kind, path_len, at, len) = (number(0, 4), number(4, 4) as usize, number(8, 8), number(16, 8) as usize);
        if log.len() < 24 + path_len + len {
            break;
        }
        let kind = match kind {
            1 => Kind::Create,
            2 => Kind::Write,
            3 => Kind::Truncate,
            4 => Kind::Rename,
            5 => Kind::Unlink,
            6 => Kind::Mkdir,
            7 => Kind::SyncBegin,
            8 => Kind::SyncEnd,
            other => panic!("the recorder knows no call {other}"),
        };
        let path = PathBuf::from(std::str::from_utf8(&log[24..24 + path_len]).unwrap());
        calls.push(Call { kind, path, at, data: log[24 + path_len..24 + path_len + len].to_vec() });
        log = &log[24 + path_len + len..];
    }
    calls
}

/// A name is a folder or file number `n`.
#[derive(Copy, Clone, Debug, PartialEq)]
enum Node {
    Folder,
    File(usize),
}

#[derive(Default)]
struct File {
    durable: Vec<u8>,
    /// Calls that no sync has covered.
    pending: Vec<usize>,
}

/// Names and files after some calls.
#[derive(Default)]
pub struct Disk {
    files: Vec<File>,
    names: BTreeMap<PathBuf, Node>,
    durable_names: BTreeMap<PathBuf, Node>,
    /// Calls that changed names, and the file created.
    pending_names: Vec<(usize, Option<usize>)>,
    /// Running syncs: the sync's number, and the call that began it.
    syncs: BTreeMap<u64, usize>,
}

impl Disk {
    /// Takes in the call with this number.
    pub fn apply(&mut self, calls: &[Call], number: usize) {
        let call = &calls[number];
        match call.kind {
            Kind::Create => {
                self.files.push(File::default());
                self.change_names(calls, number, Some(self.files.len() - 1));
            }
            Kind::Rename | Kind::Unlink | Kind::Mkdir => self.change_names(calls, number, None),
            Kind::Write | Kind::Truncate => match self.names.get(&call.path) {
                Some(Node::File(file)) => self.files[*file].pending.push(number),
                other => panic!("{call:?} to {other:?}"),
            },
            Kind::SyncBegin => {
                self.syncs.insert(call.at, number);
            }
            Kind::SyncEnd => {
                let begin = self.syncs.remove(&call.at).expect("a sync begins before it ends");
                self.sync(calls, begin);
            }
        }
    }

    fn change_names(&mut self, calls: &[Call], number: usize, file: Option<usize>) {
        rename_in(&mut self.names, &calls[number], file);
        self.pending_names.push((number, file));
    }

    fn sync(&mut self, calls: &[Call], begin: usize) {
        let path = &calls[begin].path;
        if let Some(Node::File(file)) = self.names.get(path) {
            let file = &mut self.files[*file];
            let covered = file.pending.iter().take_while(|n| **n < begin).count();
            for number in file.pending.drain(..covered) {
                write_to(&mut file.durable, &calls[number], |_| true);
            }
            return;
        }
        let durable_names = &mut self.durable_names;
        self.pending_names.retain(|(number, file)| {
            let covered = *number < begin && calls[*number].path.parent() == Some(path);
            if covered {
                rename_in(durable_names, &calls[*number], *file);
            }
            !covered
        });
    }

    /// Writes the disk as it may be after a power cut now below `to` instead of `root`. Of what no sync covered, `share` of 4 is there on
    /// the whole: any of it, in parts. `draw` gives random numbers.
    pub fn image(&self, calls: &[Call], root: &Path, to: &Path, share: u64, draw: &mut dyn FnMut() -> u64) {
        let mut names = self.durable_names.clone();
        for (number, file) in &self.pending_names {
            if draw() % 4 < share {
                rename_in(&mut names, &calls[*number], *file);
            }
        }
        for (path, node) in names {
            // A file or folder whose folder is not there is not there.
            let Ok(below) = path.strip_prefix(root) else { continue };
            let path = to.join(below);
            match node {
                Node::Folder => drop(std::fs::create_dir(path)),
                Node::File(file) => {
                    let bytes = self.files[file].after_cut(calls, share, draw);
                    if path.parent().is_some_and(Path::exists) {
                        write_sparse(&path, &bytes);
                    }
                }
            }
        }
    }
}

impl File {
    fn after_cut(&self, calls: &[Call], share: u64, draw: &mut dyn FnMut() -> u64) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for number in &self.pending {
            let torn = draw().is_multiple_of(3);
            let whole = draw() % 4 < share;
            if torn {
                write_to(&mut bytes, &calls[*number], |_| draw() % 4 < share);
            } else if whole {
                write_to(&mut bytes, &calls[*number], |_| true);
            }
        }
        bytes
    }
}

/// Does a write or truncation to a file's bytes; of a write, the sectors that `keeps` says.
fn write_to(bytes: &mut Vec<u8>, call: &Call, mut keeps: impl FnMut(usize) -> bool) {
    let at = call.at as usize;
    if call.kind == Kind::Truncate {
        if keeps(0) {
            bytes.resize(at, 0);
        }
        return;
    }
    let mut from = 0;
    while from < call.data.len() {
        let sector_end = ((at + from) / SECTOR_BYTES + 1) * SECTOR_BYTES - at;
        let to = sector_end.min(call.data.len());
        if keeps(from) {
            if bytes.len() < at + to {
                bytes.resize(at + to, 0);
            }
            bytes[at + from..at + to].copy_from_slice(&call.data[from..to]);
        }
        from = to;
    }
}

fn rename_in(names: &mut BTreeMap<PathBuf, Node>, call: &Call, file: Option<usize>) {
    match call.kind {
        Kind::Create => drop(names.insert(call.path.clone(), Node::File(file.expect("a created file")))),
        Kind::Mkdir => drop(names.insert(call.path.clone(), Node::Folder)),
        Kind::Unlink => drop(names.remove(&call.path)),
        Kind::Rename => {
            let to = PathBuf::from(std::str::from_utf8(&call.data).unwrap());
            let moved: Vec<PathBuf> = names.keys().filter(|path| path.starts_with(&call.path)).cloned().collect();
            for from in moved {
                let below = from.strip_prefix(&call.path).unwrap();
                let to = if below.as_os_str().is_empty() { to.clone() } else { to.join(below) };
                if let Some(node) = names.remove(&from) {
                    names.insert(to, node);
                }
            }
        }
        _ => {}
    }
}

/// Writes a file without its zeros.
fn write_sparse(path: &Path, bytes: &[u8]) {
    const PIECE: usize = 64 << 10;
    static ZEROS: [u8; PIECE] = [0; PIECE];
    let mut file = std::fs::File::create(path).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    for (n, piece) in bytes.chunks(PIECE).enumerate() {
        if piece != &ZEROS[..piece.len()] {
            file.seek(SeekFrom::Start((n * PIECE) as u64)).unwrap();
            file.write_all(piece).unwrap();
        }
    }
}
