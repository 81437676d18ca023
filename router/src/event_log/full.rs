//! Why the store takes nothing, in words that name the setting.

use sled_data::WhyFull;

use super::EventLog;

/// What to do about a store that is full.
pub const FULL_ADVICE: &str = "free disk space or shorten retention; [store] reserve_bytes says how much of the disk stays free, and \
                               bytes_max how much may be stored (0: no bound)";

impl EventLog {
    /// Why the store takes no events now for want of room; `None` where it takes them.
    pub fn why_full(&self) -> Option<String> {
        self.store.why_full().map(words)
    }
}

fn words(why: WhyFull) -> String {
    match why {
        WhyFull::Disk { free, reserve } => {
            format!("{} of its disk are free, and [store] reserve_bytes keeps {} free", mib(free), mib(reserve))
        }
        WhyFull::Bound { stored, max } => {
            format!("{} of events are stored, and [store] bytes_max allows {}", mib(stored), mib(max))
        }
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_is_named() {
        let (mib, disk) = (1 << 20, |free, reserve| words(WhyFull::Disk { free, reserve }));
        assert_eq!(
            disk(57 * mib, 64 * mib),
            "57.0 MiB of its disk are free, and [store] reserve_bytes keeps 64.0 MiB free"
        );
        assert_eq!(
            words(WhyFull::Bound { stored: mib / 2, max: mib }),
            "0.5 MiB of events are stored, and [store] bytes_max allows 1.0 MiB"
        );
    }
}
