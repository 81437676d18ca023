//! Where a demo is shown: a panel that is drawn again and again on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Between two times that plain lines are printed.
const PLAIN_EVERY: Duration = Duration::from_secs(2);

/// Standard output.
#[derive(Debug)]
pub struct Screen {
    redraws: bool,
    /// Lines to go up before drawing again.
    drawn: usize,
    plain_at: Duration,
    title: &'static str,
}

impl Screen {
    pub fn new() -> Screen {
        Screen { redraws: std::io::stdout().is_terminal(), drawn: 0, plain_at: Duration::ZERO, title: "" }
    }

    /// Draws the panel over the last one, or prints the plain lines when it is time for them or the title is another
    /// one. Both texts end their lines. `elapsed` counts from the start.
    pub fn show(
        &mut self,
        elapsed: Duration,
        title: &'static str,
        panel: impl FnOnce() -> String,
        plain: impl FnOnce() -> String,
    ) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.redraws {
            let text = panel();
            if self.drawn > 0 {
                write!(out, "\x1b[{}A\x1b[J", self.drawn)?;
            }
            self.drawn = text.lines().count();
            out.write_all(text.as_bytes())?;
        } else if elapsed >= self.plain_at || title != self.title {
            (self.plain_at, self.title) = (elapsed + PLAIN_EVERY, title);
            out.write_all(plain().as_bytes())?;
        }
        out.flush()
    }
}
