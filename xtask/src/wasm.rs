//! Finds a toolchain that builds for `wasm32-unknown-unknown`.
//!
//! In this order: the target is installed; rustup installs it; Debian's
//! packages are unpacked into a cache folder (`wasm_debian`).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cargo::cargo;
use crate::error::TaskError;
use crate::wasm_debian;

/// The target of all plugins.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// How to build for Wasm.
#[derive(Debug)]
pub enum Toolchain {
    /// The toolchain that runs this task has the target.
    Own,
    /// An unpacked compiler that builds its standard library from source.
    Unpacked {
        rustc: PathBuf,
        /// Where the compiler's shared libraries are.
        libraries: Vec<PathBuf>,
        /// Where `rust-lld` is.
        linker: PathBuf,
    },
}

impl Toolchain {
    /// Finds a toolchain, or gets one; `cache` is where unpacked ones are kept.
    pub fn find(cache: &Path) -> Result<Toolchain, TaskError> {
        let sysroot = sysroot()?;
        if has_target(&sysroot) {
            return Ok(Toolchain::Own);
        }
        eprintln!("the target {TARGET} is not installed; asking rustup for it");
        if rustup_add() && has_target(&sysroot) {
            return Ok(Toolchain::Own);
        }
        eprintln!("rustup could not install it; trying Debian's packages");
        wasm_debian::toolchain(cache, &sysroot).map_err(|reason| {
            TaskError::NoToolchain(format!(
                "no Rust toolchain for {TARGET}: rustup could not install the target, and \
                 Debian's packages could not be used ({reason}). Install it by `rustup target \
                 add {TARGET}`, or have `apt-get` reach a Debian mirror with `rustc-web`"
            ))
        })
    }

    /// A `cargo build` for the target, ready for packages to be named.
    pub fn cargo_build(&self, target_dir: &Path) -> Command {
        let mut cargo = cargo();
        cargo.args(["build", "--release", "--target", TARGET, "--target-dir"]).arg(target_dir);
        if let Toolchain::Unpacked { rustc, libraries, linker } = self {
            // Debian's compiler is older than the workspace names. What runs while a plugin is built (the SDK's macro)
            // uses a later language feature, which is switched on; plugins themselves do without.
            cargo.args(["-Zbuild-std=std,panic_abort", "--ignore-rust-version"]);
            cargo.args(["-Zhost-config", "-Ztarget-applies-to-host", "--config", "target-applies-to-host=false"]);
            cargo.args(["--config", r#"host.rustflags=["-Zcrate-attr=feature(let_chains)"]"#]);
            cargo.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
            cargo.env_remove("RUSTC_WRAPPER").env_remove("RUSTUP_TOOLCHAIN");
            cargo.env("LD_LIBRARY_PATH", joined(libraries, "LD_LIBRARY_PATH"));
            cargo.env("PATH", joined(std::slice::from_ref(linker), "PATH"));
        }
        cargo
    }
}

/// `folders` before what the variable holds already.
fn joined(folders: &[PathBuf], variable: &str) -> std::ffi::OsString {
    let before = std::env::var_os(variable).unwrap_or_default();
    let rest: Vec<PathBuf> = std::env::split_paths(&before).collect();
    std::env::join_paths(folders.iter().chain(&rest)).unwrap_or(before)
}

fn sysroot() -> Result<PathBuf, TaskError> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let command = "rustc --print sysroot".to_owned();
    let output = Command::new(rustc)
        .args(["--print", "sysroot"])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| TaskError::Start { command: command.clone(), source })?;
    if !output.status.success() {
        return Err(TaskError::Command { command });
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// Whether the standard library for the target is there.
fn has_target(sysroot: &Path) -> bool {
    let library = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    let Ok(mut files) = library.read_dir() else {
        return false;
    };
    files.any(|file| file.is_ok_and(|file| file.file_name().to_string_lossy().starts_with("libstd-")))
}

fn rustup_add() -> bool {
    let added = Command::new("rustup").args(["target", "add", TARGET]).status();
    added.is_ok_and(|status| status.success())
}
