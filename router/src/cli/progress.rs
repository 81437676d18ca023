//! A line on standard error that says how far long work is, where that is a terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the line is written anew.
const EVERY: Duration = Duration::from_millis(100);
/// Characters of the bar.
const BAR_CHARS: u64 = 30;

/// The line.
pub struct Progress {
    unit: &'static str,
    total: Option<u64>,
    shown: Option<Instant>,
    visible: bool,
}

impl Progress {
    /// A line about `total` units, or about units without a known end.
    pub fn start(unit: &'static str, total: Option<u64>) -> Self {
        Self { unit, total, shown: None, visible: std::io::stderr().is_terminal() }
    }

    /// Says how far it is, and of how much where that has become known.
    pub fn at(&mut self, done: u64) {
        if self.visible && self.shown.is_none_or(|shown| shown.elapsed() >= EVERY) {
            self.shown = Some(Instant::now());
            eprint!("\r\u{1b}[K{}", self.text(done));
            // Nothing depends on the line.
            let _ = std::io::stderr().flush();
        }
    }

    /// Says of how much it is.
    pub fn of(&mut self, total: u64) {
        self.total = Some(total);
    }

    /// Takes the line away.
    pub fn end(&mut self) {
        if self.shown.take().is_some() {
            eprint!("\r\u{1b}[K");
        }
    }

    fn text(&self, done: u64) -> String {
        let unit = self.unit;
        let Some(total) = self.total.filter(|total| *total > 0) else { return format!("{done} {unit}") };
        let done = done.min(total);
        let full = u128::from(done) * u128::from(BAR_CHARS) / u128::from(total);
        let full = usize::try_from(full).unwrap_or(0);
        let percent = u128::from(done) * 100 / u128::from(total);
        let bar = "#".repeat(full) + &".".repeat((BAR_CHARS as usize).saturating_sub(full));
        format!("[{bar}] {percent:3} %  {done} of {total} {unit}")
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_it_is() {
        let mut progress = Progress::start("bytes", None);
        assert_eq!(progress.text(7), "7 bytes");
        progress.of(u64::MAX);
        assert!(progress.text(u64::MAX).starts_with("[##############################] 100 %"));
        progress.of(10);
        assert_eq!(progress.text(5), "[###############...............]  50 %  5 of 10 bytes");
        assert!(progress.text(99).contains("100 %"), "never more than all");
        progress.of(0);
        assert_eq!(progress.text(0), "0 bytes");
    }
}
