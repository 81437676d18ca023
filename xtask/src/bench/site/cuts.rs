//! When a link was cut, from what it says of itself now and then (pure).

use std::time::Duration;

use serde_json::Value;

/// One cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// When it was seen, since the watch began.
    pub at: Duration,
    /// What the link said; empty where it had come again before it was looked at.
    pub why: String,
}

/// What was seen of a link since the watch began.
#[derive(Debug)]
pub struct Cuts {
    /// Connections before the watch.
    before: u64,
    seen: Vec<Cut>,
}

impl Cuts {
    /// Begins with what the link says now; it is connected.
    pub fn since(view: &Value) -> Cuts {
        Cuts { before: connections(view), seen: Vec::new() }
    }

    /// Takes what the link says at a moment. Each connection that has come was a cut before it, and so is being without one.
    pub fn look(&mut self, at: Duration, view: &Value) {
        let is_down = view["state"] != "connected";
        let cuts = connections(view).saturating_sub(self.before) + u64::from(is_down);
        let why = view["reason"].as_str().unwrap_or_default();
        while (self.seen.len() as u64) < cuts {
            self.seen.push(Cut { at, why: why.to_owned() });
        }
    }

    /// All that were seen, the first one first.
    pub fn seen(&self) -> &[Cut] {
        &self.seen
    }
}

fn connections(view: &Value) -> u64 {
    view["connections"].as_u64().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cut_is_counted_once_whenever_it_is_looked_at() {
        let view = |state: &str, connections: u64| {
            let reason = if state == "connected" { "" } else { "silent" };
            serde_json::json!({ "state": state, "connections": connections, "reason": reason })
        };
        // What is seen each second, and the seconds and reasons of the cuts.
        type Seen<'a> = &'a [(&'a str, u64)];
        type Expected<'a> = &'a [(u64, &'a str)];
        let cases: [(Seen<'_>, Expected<'_>); 5] = [
            (&[("connected", 3), ("connected", 3)], &[]),
            (&[("cut", 3), ("connecting", 3), ("connected", 4), ("connected", 4)], &[(0, "silent")]),
            (&[("connected", 3), ("connected", 4), ("connected", 6)], &[(1, ""), (2, ""), (2, "")]),
            (&[("cut", 3), ("cut", 4), ("connected", 5)], &[(0, "silent"), (1, "silent")]),
            (&[("refused", 3)], &[(0, "silent")]),
        ];
        for (views, expected) in cases {
            let mut cuts = Cuts::since(&view("connected", 3));
            for (second, (state, connections)) in (0..).zip(views) {
                cuts.look(Duration::from_secs(second), &view(state, *connections));
            }
            let found: Vec<_> = cuts.seen().iter().map(|cut| (cut.at.as_secs(), cut.why.as_str())).collect();
            assert_eq!(found, expected, "{views:?}");
        }
    }
}
