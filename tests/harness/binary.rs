//! Finds the `edgeway` binary and the example of a buffered device, each built once for a test run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The binary: `EDGEWAY_BIN` where it is set, else built beside the tests.
pub fn edgeway() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("EDGEWAY_BIN") {
        Some(path) => PathBuf::from(path),
        None => build(&["--package", "edgeway", "--bin", "edgeway"]).join("edgeway"),
    })
}

/// The example of a device whose buffer is on disk.
pub fn buffered_device() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let what = ["--package", "devices", "--features", "disk", "--example", "buffered"];
        build(&what).join("examples/buffered")
    })
}

/// Builds something beside the tests; gives the profile's folder.
fn build(what: &[&str]) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap(); // PROFILE/deps/e2e-HASH
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet"]).args(what);
    cargo.arg("--target-dir").arg(profile.parent().unwrap());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    cargo.current_dir(root());
    assert!(cargo.status().unwrap().success(), "{what:?} does not build");
    profile.to_owned()
}

/// The workspace's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
