//! How soon the others say that a killed node is not heard.

use std::time::{Duration, Instant};

use super::nodes::{Site, wait};
use crate::bench::error::BenchError;
use crate::bench::options::REPETITIONS;
use crate::bench::report::{Goal, Row, Spread, Unit};

/// How long it should take at most, in milliseconds.
const GOAL_MS: f64 = 5_000.0;
const NOTICE_MAX: Duration = Duration::from_secs(30);

/// Kills the last node, and starts it again, a few times.
pub fn run(site: &mut Site) -> Result<Vec<Row>, BenchError> {
    let last = site.members.len() - 1;
    let name = site.members[last].name.clone();
    let (mut missed, mut back) = (Vec::new(), Vec::new());
    for _ in 0..REPETITIONS {
        site.kill(last);
        missed.push(until_all(site, last, |hears| !hears, &name)?);
        site.restart(last)?;
        back.push(until_all(site, last, |hears| hears, &name)?);
        site.wait_level()?;
    }
    Ok(vec![
        Row::new("a killed node is missed by both others", Unit::Milliseconds, Spread::of(missed))
            .goal(Goal::AtMost(GOAL_MS)),
        Row::new("  from its start until both hear it", Unit::Milliseconds, Spread::of(back)),
    ])
}

/// How long it takes until all others see the last node so, in milliseconds.
fn until_all(site: &Site, last: usize, is_so: fn(bool) -> bool, name: &str) -> Result<f64, BenchError> {
    let began = Instant::now();
    for place in 0..last {
        wait(&format!("{name} to be missed, or heard again"), NOTICE_MAX, || Ok(is_so(site.view(place)?.hears(name))))?;
    }
    Ok(began.elapsed().as_secs_f64() * 1e3)
}
