//! Debian's Rust compiler for Wasm, unpacked into a cache folder.
//!
//! Nothing is installed: packages are downloaded by `apt-get download` and
//! unpacked by `dpkg -x`. The compiler comes with sources of its own version,
//! from which cargo builds the standard library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::wasm::Toolchain;

/// The compiler, its libraries' files and the sources; what else is needed is
/// read from their dependencies.
const PACKAGES: [&str; 3] = ["rustc-web", "libstd-rust-web-dev", "rust-web-src"];
/// Packages found by dependency: the compiler's own library, then LLVM.
const FOLLOWED: [&str; 2] = ["libstd-rust-web-", "libllvm"];

/// Unpacks the compiler, unless an earlier run did.
pub fn toolchain(cache: &Path, sysroot: &Path) -> Result<Toolchain, String> {
    let unpacked = cache.join("debian");
    if !unpacked.join("complete").exists() {
        fetch(cache, &unpacked)?;
    }
    let rustc = find_rustc(&unpacked)?;
    let linker = sysroot.join("lib/rustlib").join(HOST).join("bin");
    if !linker.join("rust-lld").exists() {
        return Err(format!("no rust-lld in {}", linker.display()));
    }
    let libraries = ["usr/lib", "usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu"];
    Ok(Toolchain::Unpacked { rustc, libraries: libraries.map(|folder| unpacked.join(folder)).to_vec(), linker })
}

const HOST: &str = if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };

fn fetch(cache: &Path, unpacked: &Path) -> Result<(), String> {
    let downloads = cache.join("packages");
    for folder in [&downloads, unpacked] {
        if folder.exists() {
            fs::remove_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    let mut wanted: Vec<String> = PACKAGES.map(str::to_owned).to_vec();
    for prefix in FOLLOWED {
        download(&downloads, &wanted)?;
        wanted = dependencies(&downloads, prefix)?;
    }
    download(&downloads, &wanted)?;
    for package in archives(&downloads)? {
        run(Command::new("dpkg").arg("-x").arg(&package).arg(unpacked))?;
    }
    let mark = unpacked.join("complete");
    fs::write(&mark, "").map_err(|e| format!("{}: {e}", mark.display()))
}

fn download(folder: &Path, packages: &[String]) -> Result<(), String> {
    run(Command::new("apt-get").arg("download").args(packages).current_dir(folder))
}

fn archives(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let files = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let paths = files.filter_map(|file| file.ok().map(|file| file.path()));
    Ok(paths.filter(|path| path.extension().is_some_and(|e| e == "deb")).collect())
}

/// Packages named by `prefix` that the downloaded ones depend on.
fn dependencies(folder: &Path, prefix: &str) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for package in archives(folder)? {
        let output = Command::new("dpkg-deb")
            .arg("-f")
            .arg(&package)
            .arg("Depends")
            .output()
            .map_err(|e| format!("dpkg-deb: {e}"))?;
        found.extend(named(&String::from_utf8_lossy(&output.stdout), prefix));
    }
    found.sort();
    found.dedup();
    found.retain(|name| !PACKAGES.contains(&name.as_str()));
    if found.is_empty() {
        return Err(format!("no package depends on `{prefix}*`"));
    }
    Ok(found)
}

/// The names in a `Depends` field that begin with `prefix`, without versions.
fn named(depends: &str, prefix: &str) -> Vec<String> {
    depends
        .split([',', '|'])
        .filter_map(|entry| entry.split_whitespace().next())
        .map(|name| name.split(':').next().unwrap_or(name))
        .filter(|name| name.to_ascii_lowercase().starts_with(prefix))
        .map(str::to_owned)
        .collect()
}

/// The compiler itself; where the name in `usr/bin` is a link, what it means.
fn find_rustc(unpacked: &Path) -> Result<PathBuf, String> {
    let candidates = ["usr/bin/rustc", "usr/lib/rust-web/bin/rustc"];
    let found = candidates.map(|path| unpacked.join(path)).into_iter().find(|path| path.is_file());
    found.ok_or_else(|| format!("no rustc in {}", unpacked.display()))
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{name} ended with {status}")),
        Err(error) => Err(format!("{name}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read() {
        let depends = "libc6 (>= 2.34), libstd-rust-web-1.96 (= 1.96.0), libllvm19:any | libLLVM20, gcc";
        assert_eq!(named(depends, "libstd-rust-web-"), ["libstd-rust-web-1.96"]);
        assert_eq!(named(depends, "libllvm"), ["libllvm19", "libLLVM20"]);
        assert!(named("", "libllvm").is_empty());
    }
}
