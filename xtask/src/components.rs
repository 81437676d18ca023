//! Builds the plugins and makes them components.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use wit_component::ComponentEncoder;

use crate::error::{TaskError, at};
use crate::wasm::{TARGET, Toolchain};

/// The shipped plugins: folders of `plugins/`, packages and components alike.
pub const PLUGINS: &[&str] = &["threshold-alarm", "downsample", "pressure-watch", "valve-guard"];

/// The workspace's folder.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Builds all plugins into `target/plugins/NAME.wasm`.
pub fn build_plugins(root: &Path) -> Result<(), TaskError> {
    let toolchain = Toolchain::find(&root.join("target/wasm-toolchain"))?;
    let target_dir = root.join("target/wasm");
    let mut build = toolchain.cargo_build(&target_dir);
    build.current_dir(root);
    for plugin in PLUGINS {
        build.args(["--package", plugin]);
    }
    run(&mut build)?;
    let out = root.join("target/plugins");
    fs::create_dir_all(&out).map_err(at(&out))?;
    for plugin in PLUGINS {
        let module = target_dir.join(TARGET).join("release").join(format!("{}.wasm", plugin.replace('-', "_")));
        let component = out.join(format!("{plugin}.wasm"));
        let bytes = encode(&module)?;
        fs::write(&component, &bytes).map_err(at(&component))?;
        println!("{} ({} KiB)", component.display(), bytes.len().div_ceil(1024));
    }
    Ok(())
}

/// Makes a core module with its embedded world a component.
fn encode(module: &Path) -> Result<Vec<u8>, TaskError> {
    let bytes = fs::read(module).map_err(at(module))?;
    let mut encoder = ComponentEncoder::default();
    encoder.validate(true);
    let encoded = encoder.module(&bytes).and_then(|encoder| encoder.encode());
    encoded.map_err(|error| TaskError::Component { path: module.to_owned(), reason: format!("{error:#}") })
}

/// Runs a command to its end, its output on the terminal.
pub fn run(command: &mut Command) -> Result<(), TaskError> {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(TaskError::Command { command: name }),
        Err(source) => Err(TaskError::Start { command: name, source }),
    }
}
