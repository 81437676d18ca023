//! `cargo xtask test`: everything that can be checked on this machine, and what could not be.

mod peers;
mod summary;

use std::path::Path;
use std::process::Command;

use crate::components;
use crate::error::{TaskError, at};

/// Builds plugins and node, has test peers installed where that can be done, and runs all tests; `args` go to
/// `cargo test`.
///
/// # Errors
/// When the Wasm toolchain cannot be had, something does not build, or a test fails.
pub fn run(root: &Path, args: &[String]) -> Result<(), TaskError> {
    let target = root.join("target");
    let skipped = target.join("skipped-checks.txt");
    std::fs::create_dir_all(&target).map_err(at(&target))?;
    if skipped.exists() {
        std::fs::remove_file(&skipped).map_err(at(&skipped))?;
    }
    components::build_plugins(root).inspect_err(|error| {
        if matches!(error, TaskError::NoToolchain(_)) {
            eprintln!("`cargo test --workspace` runs the tests that need no Wasm toolchain");
        }
    })?;
    let missing = peers::install();
    // All targets in one build, so that the node that is tested is built with the same features as the tests.
    components::run(cargo(root).args(["build", "--workspace", "--all-targets"]))?;
    let mut tests = cargo(root);
    tests.args(["test", "--workspace", "--no-fail-fast"]).args(args);
    tests.env("EDGEWAY_BIN", target.join("debug/edgeway"));
    tests.env("EDGEWAY_PLUGINS", target.join("plugins"));
    tests.env("EDGEWAY_SKIPPED", &skipped);
    let done = components::run(&mut tests);
    summary::print(&missing, &skipped, done.is_ok());
    done
}

fn cargo(root: &Path) -> Command {
    let mut cargo = crate::cargo::cargo();
    cargo.current_dir(root);
    // The build must land where the tests look for it.
    cargo.env("CARGO_TARGET_DIR", root.join("target"));
    cargo
}
