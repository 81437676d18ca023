//! The cargo that runs this task, to be run by it once more.

use std::process::Command;

/// What cargo tells the program that it runs. Build scripts ask for some of it: were it handed on, what they have built (`ring`,
/// and all that stands on it) would be built anew whenever a task takes turns with a cargo from the shell.
const TOLD: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];

/// A cargo, as one who calls it from the shell has it.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| TOLD.iter().any(|told| name.starts_with(told))) {
            cargo.env_remove(name);
        }
    }
    cargo
}
