//! What the site's demo shows: a line for each gateway.

use std::time::Duration;

use crate::demo::panel::grouped;
use crate::demo::screen::Screen;

/// One gateway and its devices.
#[derive(Debug, Clone, Default)]
pub struct Gateway {
    pub name: String,
    pub is_alive: bool,
    /// Of its devices, how many are connected.
    pub online: usize,
    pub devices: usize,
    /// Readings that its devices keep, since they are not acknowledged.
    pub kept: u64,
    pub acked: u64,
    /// Readings acknowledged in the last second.
    pub per_second: u64,
    /// Events of its log that each other node lacks.
    pub lacking: Vec<(String, u64)>,
}

/// The headquarters.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fed {
    pub is_cut: bool,
    /// Readings that it has, and how many came in the last second.
    pub stored: u64,
    pub per_second: u64,
    /// Readings of the site that it lacks.
    pub waiting: u64,
}

/// Everything that is shown.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    pub elapsed: Duration,
    pub title: &'static str,
    pub gateways: Vec<Gateway>,
    pub upstream: Option<Fed>,
}

impl Frame {
    /// Shows it; the plain lines are those of the panel.
    pub fn show(&self, screen: &mut Screen) -> std::io::Result<()> {
        screen.show(self.elapsed, self.title, || drawn(self), || drawn(self))
    }
}

fn drawn(frame: &Frame) -> String {
    let mut text = format!("Edgeway site demo, {:>4.1} s: {}\n", frame.elapsed.as_secs_f64(), frame.title);
    for gateway in &frame.gateways {
        text.push_str(&format!(
            "  {}  {}  {:>2} of {} devices  {:>6} acknowledged {:>4}/s  {:>5} kept by devices  {}\n",
            gateway.name,
            if gateway.is_alive { "up  " } else { "DEAD" },
            gateway.online,
            gateway.devices,
            grouped(gateway.acked),
            gateway.per_second,
            grouped(gateway.kept),
            behind(gateway),
        ));
    }
    if let Some(fed) = &frame.upstream {
        text.push_str(&format!(
            "  hq  {}  {:>6} readings of the site {:>6}/s  {:>6} wait for it  {}\n",
            if fed.is_cut { "CUT " } else { "fed " },
            grouped(fed.stored),
            grouped(fed.per_second),
            grouped(fed.waiting),
            drain(fed),
        ));
    }
    text
}

/// How long what waits takes at the rate of the last second.
fn drain(fed: &Fed) -> String {
    match (fed.is_cut, fed.per_second) {
        (true, _) => "nothing comes through".to_owned(),
        (false, 0) => String::new(),
        (false, rate) => format!("drains in {:.1} s", fed.waiting as f64 / rate as f64),
    }
}

/// Who lacks what of a gateway's log, in words.
fn behind(gateway: &Gateway) -> String {
    if !gateway.is_alive {
        return "its log so far is on the other two".to_owned();
    }
    let lack = |(name, events): &(String, u64)| format!("{name} lacks {}", grouped(*events));
    gateway.lacking.iter().map(lack).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_a_line() {
        let mut gateway = Gateway { name: "n1".to_owned(), is_alive: true, devices: 10, ..Gateway::default() };
        gateway.lacking = vec![("n2".to_owned(), 1_234), ("n3".to_owned(), 0)];
        let dead = Gateway { name: "n2".to_owned(), ..Gateway::default() };
        let text = drawn(&Frame { gateways: vec![gateway, dead], ..Frame::default() });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].starts_with("  n1  up") && lines[1].ends_with("n2 lacks 1,234, n3 lacks 0"), "{text}");
        assert!(lines[2].starts_with("  n2  DEAD"), "{text}");
        let fed = Fed { stored: 10, per_second: 500, waiting: 1_250, is_cut: false };
        let upstream = |fed| drawn(&Frame { upstream: Some(fed), ..Frame::default() });
        assert!(upstream(fed).ends_with("1,250 wait for it  drains in 2.5 s\n"), "{}", upstream(fed));
        assert!(upstream(Fed { is_cut: true, ..fed }).contains("  hq  CUT "));
    }
}
