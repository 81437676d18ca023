//! Compiled plugins kept on disk: the one file with `unsafe` in it.
//!
//! Compiling takes 80 ms (Rust) to 11 s (JavaScript), loading what was compiled
//! takes 0.05 ms. But what is loaded is machine code that nobody checks, so a
//! file is loaded only when all of this holds:
//!
//! - it was written by this node: the folder belongs to the node's user and
//!   nobody else may write there (mode 0700, looked at each time); nothing that
//!   comes over the network ever becomes such a file;
//! - it is whole: the file begins with the SHA-256 of the rest, so that a torn
//!   or flipped one is compiled again;
//! - it is what was asked for: the name holds the SHA-256 of the component and
//!   the engine's compatibility hash (version, settings, processor), and the
//!   engine itself checks version and settings once more.
#![allow(unsafe_code)]

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

const DIGEST_BYTES: usize = 32;

/// The folder of compiled plugins.
pub struct CompileCache {
    folder: PathBuf,
}

impl CompileCache {
    /// Opens the folder, and makes it where it is missing.
    ///
    /// # Errors
    /// The folder cannot be made, or others may write to it.
    pub fn open(folder: &Path) -> io::Result<CompileCache> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        check_private(folder)?;
        Ok(CompileCache { folder: folder.to_owned() })
    }

    /// The component, from the cache or compiled. A cache that does not work
    /// costs time, never the plugin.
    ///
    /// # Errors
    /// The bytes are no component that the engine accepts.
    pub fn component(&self, engine: &Engine, wasm: &[u8]) -> wasmtime::Result<Component> {
        let path = self.folder.join(file_name(engine, wasm));
        if let Some(component) = self.load(engine, &path) {
            return Ok(component);
        }
        let component = Component::from_binary(engine, wasm)?;
        if let Err(error) = component.serialize().map_err(io::Error::other).and_then(|code| self.store(&path, &code)) {
            tracing::warn!(path = %path.display(), %error, "a compiled plugin could not be kept");
        }
        Ok(component)
    }

    /// Removes what was compiled from components other than these.
    pub fn sweep(&self, in_use: &[[u8; 32]]) {
        let kept: Vec<String> = in_use.iter().map(|digest| super::hex(digest)).collect();
        let Ok(files) = fs::read_dir(&self.folder) else { return };
        for file in files.filter_map(Result::ok) {
            let name = file.file_name();
            let name = name.to_string_lossy();
            if !kept.iter().any(|digest| name.starts_with(digest.as_str())) {
                let _ = fs::remove_file(file.path()); // tried again at the next sweep
            }
        }
    }

    fn load(&self, engine: &Engine, path: &Path) -> Option<Component> {
        check_private(&self.folder).ok()?;
        let file = fs::read(path).ok()?;
        let (digest, code) = file.split_at_checked(DIGEST_BYTES)?;
        if Sha256::digest(code).as_slice() != digest {
            tracing::warn!(path = %path.display(), "a compiled plugin is damaged; compiling again");
            return None;
        }
        // SAFETY: `deserialize` asks for bytes that `Component::serialize` gave
        // and that nobody changed since. The folder is writable by this user
        // alone, only `store` below writes such files, and the digest shows that
        // the bytes are those that were written. An engine of another version or
        // with other settings is told by the name and refused by `deserialize`.
        unsafe { Component::deserialize(engine, code) }.ok()
    }

    fn store(&self, path: &Path, code: &[u8]) -> io::Result<()> {
        check_private(&self.folder)?;
        let temporary = path.with_extension("new");
        let mut file = fs::File::create(&temporary)?;
        file.write_all(&Sha256::digest(code))?;
        file.write_all(code)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    }
}

/// The folder is ours, and nobody else can put a file there.
fn check_private(folder: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(folder)?;
    let ours = found.uid() == rustix::process::geteuid().as_raw();
    if found.is_dir() && ours && found.mode() & 0o077 == 0 {
        return Ok(());
    }
    let text = format!("{} must be a folder of this user's own with mode 0700", folder.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

fn file_name(engine: &Engine, wasm: &[u8]) -> String {
    let mut settings = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut settings);
    format!("{}-{:016x}.cwasm", super::hex(&Sha256::digest(wasm)), settings.finish())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// The smallest component there is.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn what_was_compiled_is_found_again_unless_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CompileCache::open(&folder.path().join("cache")).unwrap();
        let engine = Engine::default();
        cache.component(&engine, EMPTY).unwrap();
        let path = cache.folder.join(file_name(&engine, EMPTY));
        assert!(cache.load(&engine, &path).is_some());
        let whole = fs::read(&path).unwrap();
        for at in [0, DIGEST_BYTES, whole.len() / 2, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert!(cache.load(&engine, &path).is_none(), "flipped at {at}");
        }
        fs::write(&path, &whole[..10]).unwrap();
        assert!(cache.load(&engine, &path).is_none());
        cache.component(&engine, EMPTY).unwrap();
        assert_eq!(fs::read(&path).unwrap(), whole, "compiled again");
        cache.sweep(&[Sha256::digest(EMPTY).into()]);
        assert!(path.exists());
        cache.sweep(&[]);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_open_to_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache");
        let cache = CompileCache::open(&path).unwrap();
        let engine = Engine::default();
        cache.component(&engine, EMPTY).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(CompileCache::open(&path).is_err());
        assert!(cache.load(&engine, &cache.folder.join(file_name(&engine, EMPTY))).is_none());
    }

    #[test]
    fn what_is_no_component_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CompileCache::open(&folder.path().join("cache")).unwrap();
        assert!(cache.component(&Engine::default(), b"hello").is_err());
    }
}
