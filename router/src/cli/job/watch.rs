//! `edgeway job watch`: what a job does, as it comes, until it has ended.

use std::io::{BufRead, Write};

use devices::command::CommandId;
use serde::Deserialize;
use serde_json::Value;

use super::path;
use super::show::{outcomes, show};
use crate::cli::api::Api;
use crate::cli::out::Out;
use crate::cli::table::printable;
use crate::cli::{Exit, Failure, when};
use crate::commands::{JOBS_TOPIC, JobInfo, Outcomes};

/// An event of the topic of jobs.
#[derive(Deserialize)]
struct Event {
    job: String,
    at_ms: i64,
    event: String,
    #[serde(default)]
    by: String,
    ended: bool,
    total: u32,
    submitted: u32,
    outcomes: Outcomes,
}

pub(super) fn run(api: &Api, id: CommandId, out: &mut Out<impl Write>) -> Result<(), Failure> {
    // From the start: what happens between the two calls is seen as well.
    let job: JobInfo = api.get(&path(id))?;
    if job.ended {
        return show(&job, out);
    }
    let mut lines = api.get_stream(&format!("topics/{JOBS_TOPIC}/events?from=start&follow=true"))?;
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = lines.read_until(b'\n', &mut line).map_err(|error| {
            Failure::new(Exit::Unreachable, format!("the node broke off: {error}")).hint("watch again")
        })?;
        if read == 0 {
            return Ok(());
        }
        let Ok(stored) = serde_json::from_slice::<Value>(&line) else { continue };
        let event = stored["value"].as_str().and_then(|value| serde_json::from_str::<Event>(value).ok());
        let Some(event) = event.filter(|event| event.job == job.id.to_string()) else { continue };
        if out.is_json() {
            out.raw(&line)?;
        } else {
            out.line(&human(&event))?;
        }
        if lines.buffer().is_empty() || event.ended {
            out.flush()?;
        }
        if event.ended {
            return Ok(());
        }
    }
}

/// One event as a line: time, what happened, how far it is.
fn human(event: &Event) -> String {
    let at = when::show_ms(event.at_ms);
    let by = match event.event.as_str() {
        "paused" | "resumed" | "cancelled" => format!(" by {}", event.by),
        _ => String::new(),
    };
    let (submitted, total, ended) = (event.submitted, event.total, event.outcomes.total());
    let mut text = format!("{at}  {}{by}  {submitted} of {total} submitted, {ended} ended", event.event);
    let outcomes = outcomes(&event.outcomes);
    if !outcomes.is_empty() {
        text.push_str(&format!(": {outcomes}"));
    }
    printable(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_lines() {
        let event = Event {
            job: "x".into(),
            at_ms: 0,
            event: "paused".into(),
            by: "cli".into(),
            ended: false,
            total: 9,
            submitted: 4,
            outcomes: Outcomes { succeeded: 2, failed: 1, ..Outcomes::default() },
        };
        assert!(human(&event).ends_with("  paused by cli  4 of 9 submitted, 3 ended: succeeded 2, failed 1"));
    }
}
