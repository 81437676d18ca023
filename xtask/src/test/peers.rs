//! Programs that the tests speak to: installed where that can be done, missed without failing.

use std::path::Path;
use std::process::{Command, Stdio};

/// Programs and the Debian package that has them.
const PEERS: [(&str, &str); 2] = [("mosquitto_pub", "mosquitto-clients"), ("mosquitto_sub", "mosquitto-clients")];

/// Installs what is missing, where this machine has apt and we are its administrator; gives what is missing still.
pub fn install() -> Vec<&'static str> {
    if missing().is_empty() {
        return Vec::new();
    }
    if can_install() {
        let mut packages: Vec<&str> =
            PEERS.iter().filter(|(program, _)| !is_installed(program)).map(|(_, package)| *package).collect();
        packages.dedup();
        println!("installing {} for the tests", packages.join(", "));
        let _ = apt(&["install", "--yes", "--no-install-recommends"], &packages)
            || (apt(&["update"], &[]) && apt(&["install", "--yes", "--no-install-recommends"], &packages));
    }
    missing()
}

fn missing() -> Vec<&'static str> {
    PEERS.iter().map(|(program, _)| *program).filter(|program| !is_installed(program)).collect()
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn can_install() -> bool {
    is_installed("apt-get") && is_administrator()
}

/// Whether this process's effective user is root, as Linux says it.
fn is_administrator() -> bool {
    let status = std::fs::read_to_string(Path::new("/proc/self/status")).unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    ids.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}

fn apt(command: &[&str], packages: &[&str]) -> bool {
    let mut apt = Command::new("apt-get");
    apt.args(["-o", "Acquire::Retries=2", "--quiet"]).args(command).args(packages);
    apt.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).stdout(Stdio::null());
    apt.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_on_the_path() {
        assert!(is_installed("sh"));
        assert!(!is_installed("no-such-program-anywhere"));
    }
}
