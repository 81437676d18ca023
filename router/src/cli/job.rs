//! `edgeway job`: commands to many devices, listed, shown, watched, paused, resumed, cancelled; `command send --where`
//! starts them.

mod show;
mod watch;

use std::io::Write;
use std::time::Duration;

use clap::Subcommand;
use devices::command::{CommandId, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::Api;
use super::locate::NodeArgs;
use super::out::Out;
use super::progress::Progress;
use super::table::Table;
use super::wait::{Patience, goes_on};
use super::{Exit, Failure, when};
use crate::admin::WAIT_MS_MAX;
use crate::commands::{JobDevices, JobInfo};
use show::{many, show};

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
        #[arg(value_parser = super::command::parse_id)]
        id: CommandId,
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
        #[arg(value_parser = super::command::parse_id)]
        id: CommandId,
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
    #[arg(value_parser = super::command::parse_id)]
    id: CommandId,
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
            if !(devices || state.is_some()) {
                return show(&api.get(&path(id))?, out);
            }
            if !out.is_json() {
                show(&api.get(&path(id))?, out)?;
                out.line("")?;
            }
            show_devices(&api, id, state, out)
        }
        Action::Watch { id, node } => watch::run(&Api::to(&node)?, id, out),
        Action::Pause(named) => ask(&named, "pause", out),
        Action::Resume(named) => ask(&named, "resume", out),
        Action::Cancel(named) => ask(&named, "cancel", out),
    }
}

fn path(id: CommandId) -> String {
    format!("jobs/{id}")
}

fn ask(named: &Named, verb: &str, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let path = format!("{}/{verb}", path(named.id));
    let job: JobInfo = Api::to(&named.node)?.post(&path, &json!({"issued_by": "cli"}), Duration::ZERO)?;
    out.done(&job, job.state.as_str())
}

/// What a job would do.
#[derive(Deserialize)]
struct Chosen {
    total: u32,
    devices: Vec<String>,
}

/// Says which devices a job would have, for `command send --where --dry-run`.
///
/// # Errors
/// When it would be refused.
pub fn dry_run(api: &Api, body: &Value, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let told: Value = api.post("jobs", body, Duration::ZERO)?;
    let chosen = Chosen::deserialize(&told).unwrap_or_else(|_| Chosen { total: 0, devices: Vec::new() });
    let more = if chosen.devices.len() < chosen.total as usize { ", ..." } else { "" };
    out.done(&told, &format!("{}: {}{more}; nothing is sent", many(chosen.total, "device"), chosen.devices.join(", ")))
}

/// Starts a job, for `command send --where`. With `lives`, the longest time that one command can, waits until the job
/// has ended and says how by the exit code.
///
/// # Errors
/// When it is refused, or not every command that was waited for succeeded.
pub fn start(
    node: &NodeArgs,
    api: Api,
    body: &Value,
    lives: Option<Duration>,
    out: &mut Out<impl Write>,
) -> Result<(), Failure> {
    let started: Value = api.post("jobs", body, Duration::ZERO)?;
    let id = started["id"].as_str().unwrap_or_default();
    let total = u32::try_from(started["total"].as_u64().unwrap_or(0)).unwrap_or(u32::MAX);
    let (devices, rate) = (many(total, "device"), started["rate"].as_u64().unwrap_or(1).max(1));
    out.aside(&json!({"id": id}), &format!("job {id}: {devices}, {rate} a second; see edgeway job watch {id}"));
    let Some(lives) = lives else { return out.done(&started, id) };
    let lives = lives + Duration::from_secs(u64::from(total) / rate);
    let mut patience = Patience::new(node, api, lives);
    let job = wait(&mut patience, id).map_err(|failure| goes_on(failure, "job", id))?;
    show(&job, out)?;
    out.ended(exit(&job))
}

/// Waits until a job has ended.
fn wait(patience: &mut Patience<'_>, id: &str) -> Result<JobInfo, Failure> {
    let mut progress = Progress::start("commands", None);
    loop {
        let job: JobInfo = patience.get(&format!("jobs/{id}?wait_ms={WAIT_MS}"))?;
        if job.ended {
            return Ok(job);
        }
        progress.of(u64::from(job.total));
        progress.at(u64::from(job.outcomes.total()));
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

fn show_devices(api: &Api, id: CommandId, state: Option<State>, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let only = state.map(|state| format!("&state={}", state.as_str())).unwrap_or_default();
    let mut after = String::new();
    let empty = match state {
        Some(state) => format!("no device's command is {}", state.as_str()),
        None => "no devices".to_owned(),
    };
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
    if out.is_json() { Ok(()) } else { out.table(&table, &empty) }
}

#[cfg(test)]
mod tests {
    use super::show::lines;
    use super::*;
    use crate::commands::{JobState, Outcomes};

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
        let aborted = JobInfo { state: JobState::Aborted, submitted: 5, ..job.clone() };
        let said = super::show::lines(&aborted);
        assert!(
            said.contains(&("state", "aborted: more than 10% did not succeed; 2 commands with devices still".into()))
        );
        assert!(
            said.contains(&("timeout", "1m".to_owned())) && said.contains(&("pending", "2".to_owned())),
            "{said:?}"
        );
        assert!(lines.contains(&("abort", "above 10% that did not succeed".to_owned())));
    }
}
