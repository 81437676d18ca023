//! `edgeway job`: commands to many devices, listed, shown, watched, paused, resumed, cancelled; `command send --where`
//! starts them.

mod watch;

use std::io::Write;
use std::time::Duration;

use clap::Subcommand;
use devices::command::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{Api, encoded};
use super::locate::NodeArgs;
use super::out::Out;
use super::progress::Progress;
use super::table::{Table, printable};
use super::{Exit, Failure, when};
use crate::admin::WAIT_MS_MAX;
use crate::commands::{JobDevices, JobInfo, JobState, Outcomes};

/// How long one call waits, so that the line of progress moves.
const WAIT_MS: u64 = if WAIT_MS_MAX < 500 { WAIT_MS_MAX } else { 500 };

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List jobs, the newest first
    List {
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Show a job
    Show {
        /// The job's id
        id: String,
        /// Its devices as well, and what became of each
        #[arg(long)]
        devices: bool,
        /// Its devices whose command is in this state alone: queued, delivered, succeeded, failed, expired, ...
        #[arg(long, value_parser = super::command::parse_state)]
        state: Option<State>,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Watch a job until it has ended
    Watch {
        /// The job's id
        id: String,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Submit no more commands until it is resumed; those that are submitted go on
    Pause(Named),
    /// Go on after a pause
    Resume(Named),
    /// Stop a job for good, and call off what it has submitted and no device has
    Cancel(Named),
}

/// Which job.
#[derive(Debug, clap::Args)]
struct Named {
    /// The job's id
    id: String,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Deserialize)]
struct Jobs {
    jobs: Vec<JobInfo>,
}

pub fn run(args: Args, out: &mut Out<impl Write>) -> Result<(), Failure> {
    match args.action {
        Action::List { node } => list(&Api::to(&node)?, out),
        Action::Show { id, devices, state, node } => {
            let api = Api::to(&node)?;
            if devices || state.is_some() {
                return show_devices(&api, &id, state, out);
            }
            show(&api.get(&path(&id))?, out)
        }
        Action::Watch { id, node } => watch::run(&Api::to(&node)?, &id, out),
        Action::Pause(named) => ask(&named, "pause", out),
        Action::Resume(named) => ask(&named, "resume", out),
        Action::Cancel(named) => ask(&named, "cancel", out),
    }
}

fn path(id: &str) -> String {
    format!("jobs/{}", encoded(id))
}

fn ask(named: &Named, verb: &str, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let path = format!("{}/{verb}", path(&named.id));
    let job: JobInfo = Api::to(&named.node)?.post(&path, &json!({"issued_by": "cli"}), Duration::ZERO)?;
    out.done(&job, job.state.as_str())
}

/// Starts a job, for `command send --where`; with `wait`, waits until it has ended and says how by the exit code.
///
/// # Errors
/// When it is refused, or with `wait` not every command succeeded.
pub fn start(api: &Api, body: &Value, wait: bool, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let started: Value = api.post("jobs", body, Duration::ZERO)?;
    let id = started["id"].as_str().unwrap_or_default();
    if !wait {
        return out.done(&started, id);
    }
    let mut progress = Progress::start("commands", None);
    let job = loop {
        let job: JobInfo = api.get(&format!("{}?wait_ms={WAIT_MS}", path(id)))?;
        if job.ended {
            break job;
        }
        progress.of(u64::from(job.total));
        progress.at(u64::from(job.outcomes.total()));
    };
    progress.end();
    show(&job, out)?;
    match exit(&job) {
        Exit::Done => Ok(()),
        exit => out.flush().and(Err(Failure::Shown(exit))),
    }
}

/// What the end of a job means.
fn exit(job: &JobInfo) -> Exit {
    let outcomes = &job.outcomes;
    let worst = [
        (outcomes.failed, State::Failed),
        (outcomes.rejected, State::Rejected),
        (outcomes.timed_out, State::TimedOut),
        (outcomes.unknown, State::Unknown),
        (outcomes.expired, State::Expired),
        (outcomes.refused, State::Refused),
        (outcomes.superseded, State::Superseded),
        (job.total - outcomes.succeeded.min(job.total), State::Cancelled),
    ];
    let found = worst.into_iter().find(|(count, _)| *count > 0);
    found.map_or(Exit::Done, |(_, state)| Exit::of_command(state))
}

fn list(api: &Api, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let Jobs { jobs } = api.get("jobs")?;
    if out.is_json() {
        return jobs.iter().try_for_each(|job| out.object(job));
    }
    let mut table =
        Table::new(&["ID", "COMMAND", "WHERE", "STATE", "ISSUED BY", "STARTED AT", ">DEVICES", ">ENDED", ">SUCCEEDED"]);
    for job in jobs {
        let at = when::show_ms(i64::try_from(job.at_ms).unwrap_or(i64::MAX));
        let (ended, succeeded) = (job.outcomes.total().to_string(), job.outcomes.succeeded.to_string());
        let (id, state) = (job.id.to_string(), job.state.as_str().to_owned());
        table.row([id, job.name, job.filter, state, job.issued_by, at, job.total.to_string(), ended, succeeded]);
    }
    out.table(&table, "no jobs")
}

fn show(job: &JobInfo, out: &mut Out<impl Write>) -> Result<(), Failure> {
    if out.is_json() {
        return out.object(job);
    }
    lines(job).iter().try_for_each(|(name, value)| out.line(&format!("{name:<10} {}", printable(value))))
}

/// Names and values.
fn lines(job: &JobInfo) -> Vec<(&'static str, String)> {
    let time = |ms: u64| when::show_ms(i64::try_from(ms).unwrap_or(i64::MAX));
    let by = if job.changed_by == "job" { "itself" } else { &job.changed_by };
    let state = match job.state {
        JobState::Running | JobState::Done => job.state.as_str().to_owned(),
        state => format!("{} by {by}", state.as_str()),
    };
    let mut lines = vec![
        ("job", job.id.to_string()),
        ("where", job.filter.clone()),
        ("command", job.name.clone()),
        ("state", state),
        ("issued by", job.issued_by.clone()),
        ("started", time(job.at_ms)),
        ("changed", time(job.changed_ms)),
        ("rate", format!("{} a second", job.rate)),
    ];
    lines.extend(job.abort_above.map(|above| ("abort", format!("above {above} that did not succeed"))));
    lines.push(("devices", job.total.to_string()));
    lines.push(("submitted", job.submitted.to_string()));
    lines.push(("ended", job.outcomes.total().to_string()));
    lines.push(("outcomes", outcomes(&job.outcomes)));
    lines
}

/// The outcomes that there are, each with its number.
fn outcomes(outcomes: &Outcomes) -> String {
    let all = [
        ("succeeded", outcomes.succeeded),
        ("failed", outcomes.failed),
        ("rejected", outcomes.rejected),
        ("expired", outcomes.expired),
        ("unknown", outcomes.unknown),
        ("timed-out", outcomes.timed_out),
        ("refused", outcomes.refused),
        ("cancelled", outcomes.cancelled),
        ("superseded", outcomes.superseded),
    ];
    let some: Vec<String> =
        all.iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}")).collect();
    some.join(", ")
}

fn show_devices(api: &Api, id: &str, state: Option<State>, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let only = state.map(|state| format!("&state={}", state.as_str())).unwrap_or_default();
    let mut after = String::new();
    let mut table = Table::new(&["DEVICE", "STATE", "COMMAND"]);
    loop {
        let page: JobDevices = api.get(&format!("{}/devices?max=1000{only}{after}", path(id)))?;
        for device in page.devices {
            if out.is_json() {
                out.object(&device)?;
                continue;
            }
            let state = device.state.map_or("not submitted", State::as_str).to_owned();
            table.row([device.device, state, device.command.map(|id| id.to_string()).unwrap_or_default()]);
        }
        match page.next {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    if out.is_json() { Ok(()) } else { out.table(&table, "no such device") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(total: u32, outcomes: Outcomes) -> JobInfo {
        let value = json!({
            "id": "017f22e2-79b0-7cc3-98c4-dc0c0c07398f", "state": "done", "ended": true, "where": "tag = pump",
            "name": "cool", "issued_by": "cli", "at_ms": 1, "changed_ms": 1, "changed_by": "job", "rate": 50,
            "abort_above": "10%", "total": total, "submitted": total, "outcomes": outcomes, "urgent": false,
            "repeat": "safe",
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_exit_code_is_zero_only_where_all_succeeded() {
        let cases = [
            (Outcomes { succeeded: 3, ..Outcomes::default() }, Exit::Done),
            (Outcomes { succeeded: 2, ..Outcomes::default() }, Exit::CommandCancelled),
            (Outcomes { succeeded: 1, failed: 1, expired: 1, ..Outcomes::default() }, Exit::CommandFailed),
            (Outcomes { expired: 2, unknown: 1, ..Outcomes::default() }, Exit::CommandUnknown),
            (Outcomes { succeeded: 2, refused: 1, ..Outcomes::default() }, Exit::CommandRefused),
            (Outcomes { succeeded: 2, cancelled: 1, ..Outcomes::default() }, Exit::CommandCancelled),
        ];
        for (outcomes, code) in cases {
            assert_eq!(exit(&job(3, outcomes)), code, "{outcomes:?}");
        }
    }

    #[test]
    fn a_job_is_shown_with_what_there_is_to_say() {
        let job = job(3, Outcomes { succeeded: 2, timed_out: 1, ..Outcomes::default() });
        let lines = lines(&job);
        assert!(lines.contains(&("outcomes", "succeeded 2, timed-out 1".to_owned())));
        assert!(lines.contains(&("abort", "above 10% that did not succeed".to_owned())));
    }
}
