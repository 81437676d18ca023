//! How soon the others say that a killed node is not heard, take its work over, and bring its commands to their devices.

use std::time::{Duration, Instant};

use serde_json::json;

use super::nodes::{Site, wait};
use crate::bench::error::BenchError;
use crate::bench::options::REPETITIONS;
use crate::bench::report::{Goal, Row, Spread, Unit};
use crate::bench::subscriber::Subscriber;

/// How long it should take at most, in milliseconds.
const GOAL_MS: f64 = 5_000.0;
const NOTICE_MAX: Duration = Duration::from_secs(30);
/// The device that a command waits for.
const DEVICE: &str = "bench-sub";

/// Kills the last node, and starts it again, a few times. Its device comes to the first node at once.
pub fn run(site: &mut Site) -> Result<Vec<Row>, BenchError> {
    let last = site.members.len() - 1;
    let name = site.members[last].name.clone();
    let (mut missed, mut taken, mut delivered, mut back) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..REPETITIONS {
        let command = json!({"device": DEVICE, "name": "do", "payload": "1", "allow_unknown": true});
        site.node(last)?.post("/v1/commands", &command)?;
        site.wait_level()?;
        site.kill(last);
        let began = Instant::now();
        let mut device = Subscriber::open(site.node(0)?.mqtt, &format!("edgeway/command/{DEVICE}/#"), 1)?;
        let mut at = [None; 3];
        wait(&format!("{name} to be missed, taken over, and its command delivered"), NOTICE_MAX, || {
            device.receive()?;
            let views = (0..last).map(|place| site.view(place)).collect::<Result<Vec<_>, _>>()?;
            let is_so = [
                views.iter().all(|view| !view.hears(&name)),
                views.iter().all(|view| view.is_taken_over(&name)),
                device.delivered > 0,
            ];
            let now = began.elapsed().as_secs_f64() * 1e3;
            for (at, _) in at.iter_mut().zip(is_so).filter(|(_, is_so)| *is_so) {
                at.get_or_insert(now);
            }
            Ok(at.iter().all(Option::is_some))
        })?;
        drop(device);
        [&mut missed, &mut taken, &mut delivered].into_iter().zip(at).for_each(|(all, at)| all.extend(at));
        let began = Instant::now();
        site.restart(last)?;
        for place in 0..last {
            wait(&format!("{name} to be heard again"), NOTICE_MAX, || Ok(site.view(place)?.hears(&name)))?;
        }
        back.push(began.elapsed().as_secs_f64() * 1e3);
        site.wait_level()?;
        let is_free = |place| Ok(!site.view(place)?.is_taken_over(&name));
        wait(&format!("{name} to have its work again"), NOTICE_MAX, || is_free(0))?;
    }
    let row = |what: &str, times| Row::new(what, Unit::Milliseconds, Spread::of(times));
    Ok(vec![
        row("a killed node is missed by both others", missed).goal(Goal::AtMost(GOAL_MS)),
        row("  its reading work is a survivor's", taken).goal(Goal::AtMost(GOAL_MS)),
        row("  a command of it is with its device", delivered).goal(Goal::AtMost(GOAL_MS)),
        row("  from its start until both hear it", back),
    ])
}
