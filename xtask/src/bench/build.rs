//! Release builds of what is measured.

use std::path::{Path, PathBuf};

use crate::bench::error::{BenchError, io};
use crate::cargo::cargo;

/// Builds with `cargo build --release` and returns the folder of the results.
pub fn release(root: &Path, what: &[&str]) -> Result<PathBuf, BenchError> {
    let status = cargo().current_dir(root).args(["build", "--release"]).args(what).status();
    match status.map_err(io("starting cargo"))?.success() {
        true => Ok(target_folder(root).join("release")),
        false => Err(BenchError::Program(format!("`cargo build --release {}` failed", what.join(" ")))),
    }
}

/// Runs the bench from a release build of this program.
pub fn run_released(root: &Path, args: impl Iterator<Item = String>) -> Result<(), BenchError> {
    let run = ["run", "--quiet", "--release", "--package", "xtask", "--", "bench"];
    let status = cargo().current_dir(root).args(run).args(args).status();
    match status.map_err(io("starting cargo"))?.success() {
        true => Ok(()),
        false => Err(BenchError::Program("the bench ended with an error, see above".to_owned())),
    }
}

/// Where cargo builds; `CARGO_TARGET_DIR` may say so.
pub fn target_folder(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |folder| root.join(folder))
}
