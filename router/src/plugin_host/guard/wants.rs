//! Which commands a guard judges, and what its manifest must say: pure.

use crate::plugin_host::effects::matches;
use crate::plugin_host::manifest::{Grants, Manifest, ManifestError, check_name, refuse};

/// Patterns of commands, or of devices, that a manifest may have.
const PATTERNS_MAX: usize = 64;
/// A pattern has at most this many bytes.
const PATTERN_BYTES_MAX: usize = 256;
/// A command waits for a guard at most this many ms.
const CALL_MS_MAX: u32 = 1_000;

/// Whether a guard is to be asked about this command.
pub fn wants(manifest: &Manifest, device: &str, command: &str) -> bool {
    let any = |patterns: &[String], text: &str| patterns.iter().any(|pattern| matches(pattern, text));
    any(&manifest.commands, command) && (manifest.devices.is_empty() || any(&manifest.devices, device))
}

/// Checks what is particular to a guard's manifest.
///
/// # Errors
/// Names the entry.
pub fn check_manifest(manifest: &Manifest) -> Result<(), ManifestError> {
    if !manifest.topics.is_empty() {
        return refuse("topics", "a command guard reads no topics");
    }
    if manifest.commands.is_empty() {
        return refuse("commands", "must name the commands that it judges, such as [\"open*\"], or [\"*\"] for all");
    }
    for (entry, patterns) in [("commands", &manifest.commands), ("devices", &manifest.devices)] {
        if patterns.len() > PATTERNS_MAX {
            return refuse(entry, format!("has {} patterns; {PATTERNS_MAX} can be", patterns.len()));
        }
        if patterns.iter().any(|pattern| !(1..=PATTERN_BYTES_MAX).contains(&pattern.len())) {
            return refuse(entry, format!("a pattern does not have 1 to {PATTERN_BYTES_MAX} bytes"));
        }
    }
    if manifest.limits.call_ms > CALL_MS_MAX {
        return refuse("limits.call_ms", format!("a command waits for its guard at most {CALL_MS_MAX} ms"));
    }
    check_grants(&manifest.grants)
}

fn check_grants(grants: &Grants) -> Result<(), ManifestError> {
    let only = Grants { read_state: grants.read_state.clone(), ..Grants::default() };
    if *grants != only {
        return refuse("grants", "a command guard can be granted `read_state` alone");
    }
    if grants.read_state.len() > PATTERNS_MAX {
        let count = grants.read_state.len();
        return refuse("grants.read_state", format!("names {count} plugins; {PATTERNS_MAX} can be"));
    }
    grants.read_state.iter().try_for_each(|plugin| check_name(plugin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_commands_and_devices_must_both_fit() {
        let all = "name='g'\nkind='command-guard'\ncommands=['open*', 'purge']";
        let some = format!("{all}\ndevices=['valve-*']");
        // Device, command, wanted for all devices, wanted for valves.
        let cases = [
            ("valve-1", "open", true, true),
            ("valve-1", "open-valve", true, true),
            ("pump-1", "open-valve", true, false),
            ("valve-1", "purge", true, true),
            ("valve-1", "purge-all", false, false),
            ("valve-1", "reopen", false, false),
        ];
        for (device, command, of_all, of_some) in cases {
            let judged = |text: &str| wants(&Manifest::parse(text).unwrap(), device, command);
            assert_eq!((judged(all), judged(&some)), (of_all, of_some), "{device} {command}");
        }
    }
}
