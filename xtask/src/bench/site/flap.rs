//! Ten minutes of the thinnest line with a backlog on it: whether the link stands, and whether every alarm arrives in time.

use std::time::Duration;

use super::thin::{self, Case, Measured};
use crate::bench::error::BenchError;
use crate::bench::groups::Context;
use crate::bench::report::{Goal, Row, Spread, Unit};

/// Timed windows for which it is watched: ten minutes where nothing else is said.
const WINDOWS: u32 = 120;
/// How long the backlog is filled: what the line carries in half an hour, at least.
const FILL: Duration = Duration::from_secs(10);
/// How long an alarm may take.
const ALARM_GOAL: Duration = Duration::from_secs(2);

/// Watches the link, and says of each cut when it was.
pub fn run(context: &Context) -> Result<Vec<Row>, BenchError> {
    let case = Case { fill: FILL, length: |window| window * WINDOWS, ..thin::CASES[0] };
    let runtime = thin::runtime()?;
    eprintln!("  {}, for {} s ...", case.name, (case.length)(context.window).as_secs());
    let measured = thin::measure(context, &runtime, &case)?;
    for cut in measured.cuts.seen() {
        let why = if cut.why.is_empty() { "it had come again when it was looked at" } else { &cut.why };
        eprintln!("  the link was cut after {:.0} s: {why}", cut.at.as_secs_f64());
    }
    Ok(told(&case, &measured))
}

fn told(case: &Case, measured: &Measured) -> Vec<Row> {
    let plain = |name: &str, figure: f64| Row::new(name, Unit::Plain, Spread::once(figure));
    let ms = |name: &str, share: f64| {
        let figure = measured.alarms.quantile_ms(share).and_then(Spread::once);
        Row::new(name, Unit::Milliseconds, figure)
    };
    let cuts = measured.cuts.seen();
    let first = cuts.first().and_then(|cut| Spread::once(cut.at.as_secs_f64()));
    let late = measured.alarms.over(ALARM_GOAL);
    vec![
        plain(&format!("link at {}: watched, seconds", case.name), measured.watched.as_secs_f64()),
        plain("  connections since the backlog began", measured.connections as f64).goal(Goal::AtMost(1.0)),
        plain("  cuts", cuts.len() as f64).goal(Goal::AtMost(0.0)),
        Row::new("  the first cut after, seconds", Unit::Plain, first),
        plain("  useful bytes of the line's rate", thin::useful_share(case, measured)),
        plain("  alarms", measured.alarms.len() as f64),
        plain("  alarms that took 2 s or more", late as f64).goal(Goal::AtMost(0.0)),
        ms("  an alarm, p50", 0.5),
        ms("  an alarm, p99", 0.99),
        ms("  an alarm, the longest", 1.0),
    ]
}
