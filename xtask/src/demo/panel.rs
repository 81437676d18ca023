//! What the demo shows: readings, alarms and commands, and the device on stage.

use std::time::Duration;

use crate::demo::fleets::Transport;
use crate::demo::screen::Screen;
use crate::demo::story::judge;

/// Everything that is shown.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub elapsed: Duration,
    pub title: &'static str,
    /// Each fleet's way to the node, and how many of how many devices are connected.
    pub fleets: Vec<(Transport, usize, usize)>,
    pub sent: u64,
    pub acked: u64,
    /// Readings acknowledged in the last second.
    pub per_second: u64,
    pub raised: u64,
    pub cleared: u64,
    pub commands: u64,
    /// From a reading to the command it caused: median and longest.
    pub latency: Option<(Duration, Duration)>,
    pub device: &'static str,
    pub temperature: f64,
}

impl View {
    /// Shows it: as a panel, or as a line.
    pub fn show(&self, screen: &mut Screen) -> std::io::Result<()> {
        screen.show(self.elapsed, self.title, || drawn(self), || plain(self) + "\n")
    }
}

fn drawn(view: &View) -> String {
    let bar = "#".repeat((view.temperature.clamp(0.0, 120.0) / 3.0) as usize);
    format!(
        "Edgeway demo, {:>4.1} s: {}\n\
         \x20 devices   {}\n\
         \x20 readings  {} sent, {} acknowledged, {}/s\n\
         \x20 alarms    {} raised, {} cleared\n\
         \x20 commands  {} received, {}\n\
         \x20 {}  {:5.1} C  {bar:40} {}\n",
        view.elapsed.as_secs_f64(),
        view.title,
        connected(view),
        grouped(view.sent),
        grouped(view.acked),
        grouped(view.per_second),
        view.raised,
        view.cleared,
        view.commands,
        latency(view),
        view.device,
        view.temperature,
        judge(view.temperature),
    )
}

fn plain(view: &View) -> String {
    format!(
        "{:5.1} s  {}  {}/s  {} acknowledged  alarms {}+{}  commands {} ({})  {} {:.1} C  {}",
        view.elapsed.as_secs_f64(),
        connected(view),
        grouped(view.per_second),
        grouped(view.acked),
        view.raised,
        view.cleared,
        view.commands,
        latency(view),
        view.device,
        view.temperature,
        view.title,
    )
}

/// Who is connected, in words.
fn connected(view: &View) -> String {
    let online: usize = view.fleets.iter().map(|(_, online, _)| online).sum();
    let part = |(by, online, of): &(Transport, usize, usize)| match online == of {
        true => format!("{online} by {}", by.name()),
        false => format!("{online} of {of} by {}", by.name()),
    };
    let parts: Vec<String> = view.fleets.iter().map(part).collect();
    format!("{online} connected: {}", parts.join(", "))
}

/// The latency in words.
pub fn latency(view: &View) -> String {
    match view.latency {
        None => "no reading has caused one yet".to_owned(),
        Some((median, longest)) => format!(
            "{:.1} ms after the reading, {:.1} ms at most",
            median.as_secs_f64() * 1e3,
            longest.as_secs_f64() * 1e3
        ),
    }
}

/// A number with its thousands set apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn who_is_connected_is_told_for_each_transport() {
        let fleets = vec![(Transport::Mqtt, 25, 25), (Transport::Quic, 3, 25)];
        let view = View { fleets, ..View::default() };
        assert_eq!(connected(&view), "28 connected: 25 by MQTT, 3 of 25 by QUIC");
    }

    #[test]
    fn the_panel_is_always_as_high() {
        let mut view = View { title: "readings flow", device: "mqtt-0007", ..View::default() };
        let height = drawn(&view).lines().count();
        view.latency = Some((Duration::from_millis(2), Duration::from_millis(9)));
        view.temperature = 400.0;
        assert_eq!(drawn(&view).lines().count(), height);
        assert_eq!(plain(&view).lines().count(), 1);
    }
}
