//! Jobs as the store keeps them: a version byte, then postcard.
//!
//! Keys of the tree `jobs` are the job's 16 bytes, a byte for the kind, and for parts their number (big-endian):
//!
//! ```text
//! id 0         what it was started with; written once, and after its targets: without it there is no job
//! id 1         where it is: state, next target, when, who
//! id 2 number  the outcomes of 1,024 targets, one byte each; absent: none has ended
//! ```
//!
//! The targets have a tree of their own, `job_targets`, which is not read at a start: id and number, 256 names each.

use devices::command::{CommandId, Repeat};
use serde::{Deserialize, Serialize};

use super::terms::{AbortAbove, Given, JobState, Moving};
use crate::commands::NewCommand;

/// The small named tree of jobs.
pub const JOBS_TREE: &str = "jobs";
/// The small named tree of their targets.
pub(super) const TARGETS_TREE: &str = "job_targets";
/// Targets in one part; names of 128 bytes fit a value.
pub(super) const TARGETS_CHUNK: u32 = 256;
/// Outcomes in one part: small, as it is written whenever one of them is.
pub(super) const OUTCOMES_CHUNK: u32 = 1_024;
/// The version that is written.
const VERSION: u8 = 1;

/// What an entry of the tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Given,
    Moving,
    Outcomes(u32),
}

/// The key of a job's entry.
pub(super) fn key(job: CommandId, part: Part) -> Vec<u8> {
    let (kind, number) = match part {
        Part::Given => (0, None),
        Part::Moving => (1, None),
        Part::Outcomes(number) => (2, Some(number)),
    };
    let number = number.map(u32::to_be_bytes);
    [&job.as_bytes()[..], &[kind], number.as_ref().map_or(&[], |bytes| &bytes[..])].concat()
}

/// What a key names; `None` where it is none of ours.
pub(super) fn parse_key(key: &[u8]) -> Option<(CommandId, Part)> {
    let (id, rest) = key.split_first_chunk::<16>()?;
    let (kind, number) = rest.split_first()?;
    let part = match (kind, number) {
        (0, []) => Part::Given,
        (1, []) => Part::Moving,
        (2, number) => Part::Outcomes(u32::from_be_bytes(number.try_into().ok()?)),
        _ => return None,
    };
    Some((CommandId::from_bytes(*id), part))
}

/// The key of a part of a job's targets.
pub(super) fn targets_key(job: CommandId, number: u32) -> Vec<u8> {
    [&job.as_bytes()[..], &number.to_be_bytes()].concat()
}

/// Trees and keys of all that a job of so many targets may have.
pub(super) fn keys(job: CommandId, total: u32) -> Vec<(&'static str, Vec<u8>)> {
    let parts = (0..total.div_ceil(OUTCOMES_CHUNK)).map(Part::Outcomes);
    let parts = [Part::Given, Part::Moving].into_iter().chain(parts).map(|part| (JOBS_TREE, key(job, part)));
    let targets = (0..total.div_ceil(TARGETS_CHUNK)).map(|number| (TARGETS_TREE, targets_key(job, number)));
    parts.chain(targets).collect()
}

/// Version 1 of what a job was started with. Frozen: another shape is another version.
#[derive(Serialize, Deserialize)]
struct GivenV1 {
    filter: String,
    rate: u32,
    abort_above: Option<AboveV1>,
    total: u32,
    at_ms: u64,
    name: String,
    payload: Vec<u8>,
    deliver_within_ms: Option<u64>,
    execution_timeout_ms: Option<u64>,
    urgent: bool,
    supersede: Option<String>,
    idempotency_key: Option<String>,
    repeat: Repeat,
    deliveries_max: Option<u32>,
    issued_by: String,
}

#[derive(Serialize, Deserialize)]
enum AboveV1 {
    Count(u32),
    Percent(u8),
}

/// Version 1 of where a job is. Frozen.
#[derive(Serialize, Deserialize)]
struct MovingV1 {
    state: StateV1,
    next: u32,
    changed_ms: u64,
    by: String,
}

#[derive(Serialize, Deserialize)]
enum StateV1 {
    Running,
    Paused,
    Cancelled,
    Aborted,
    Done,
}

/// Version 1 of a part of the targets. Frozen.
#[derive(Serialize, Deserialize)]
struct TargetsV1 {
    names: Vec<String>,
}

fn write(value: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(value, vec![VERSION]).unwrap_or_default()
}

fn read<'a, T: Deserialize<'a>>(value: &'a [u8]) -> Option<T> {
    let (&VERSION, body) = value.split_first()? else { return None };
    postcard::from_bytes(body).ok()
}

/// What a job was started with, as it is stored.
pub(super) fn encode_given(given: &Given) -> Vec<u8> {
    let command = given.command.clone();
    write(&GivenV1 {
        filter: given.filter.clone(),
        rate: given.rate,
        abort_above: given.abort_above.map(|above| match above {
            AbortAbove::Count(count) => AboveV1::Count(count),
            AbortAbove::Percent(percent) => AboveV1::Percent(percent),
        }),
        total: given.total,
        at_ms: given.at_ms,
        name: command.name,
        payload: command.payload,
        deliver_within_ms: command.deliver_within_ms,
        execution_timeout_ms: command.execution_timeout_ms,
        urgent: command.urgent,
        supersede: command.supersede,
        idempotency_key: command.idempotency_key,
        repeat: command.repeat,
        deliveries_max: command.deliveries_max,
        issued_by: command.issued_by,
    })
}

/// Reads what a job was started with; `None` where its version or bytes are not known.
pub(super) fn decode_given(id: CommandId, value: &[u8]) -> Option<Given> {
    let stored: GivenV1 = read(value)?;
    let command = NewCommand {
        payload: stored.payload,
        deliver_within_ms: stored.deliver_within_ms,
        execution_timeout_ms: stored.execution_timeout_ms,
        urgent: stored.urgent,
        supersede: stored.supersede,
        idempotency_key: stored.idempotency_key,
        repeat: stored.repeat,
        deliveries_max: stored.deliveries_max,
        ..NewCommand::new("", &stored.name, &stored.issued_by)
    };
    let abort_above = stored.abort_above.map(|above| match above {
        AboveV1::Count(count) => AbortAbove::Count(count),
        AboveV1::Percent(percent) => AbortAbove::Percent(percent),
    });
    let (filter, rate, total, at_ms) = (stored.filter, stored.rate, stored.total, stored.at_ms);
    Some(Given { id, filter, command, rate, abort_above, total, at_ms })
}

/// Where a job is, as it is stored.
pub(super) fn encode_moving(moving: &Moving) -> Vec<u8> {
    let state = match moving.state {
        JobState::Running => StateV1::Running,
        JobState::Paused => StateV1::Paused,
        JobState::Cancelled => StateV1::Cancelled,
        JobState::Aborted => StateV1::Aborted,
        JobState::Done => StateV1::Done,
    };
    write(&MovingV1 { state, next: moving.next, changed_ms: moving.changed_ms, by: moving.by.clone() })
}

/// Reads where a job is; `None` where its version or bytes are not known.
pub(super) fn decode_moving(value: &[u8]) -> Option<Moving> {
    let stored: MovingV1 = read(value)?;
    let state = match stored.state {
        StateV1::Running => JobState::Running,
        StateV1::Paused => JobState::Paused,
        StateV1::Cancelled => JobState::Cancelled,
        StateV1::Aborted => JobState::Aborted,
        StateV1::Done => JobState::Done,
    };
    Some(Moving { state, next: stored.next, changed_ms: stored.changed_ms, by: stored.by })
}

/// A part of the targets, as it is stored.
pub(super) fn encode_targets(names: &[std::sync::Arc<str>]) -> Vec<u8> {
    write(&TargetsV1 { names: names.iter().map(|name| name.to_string()).collect() })
}

/// Reads a part of the targets; `None` where its version or bytes are not known.
pub(super) fn decode_targets(value: &[u8]) -> Option<Vec<String>> {
    read(value).map(|TargetsV1 { names }| names)
}

/// A part of the outcomes, as it is stored: a version byte, then one byte each.
pub(super) fn encode_outcomes(outcomes: &[u8], number: u32) -> Vec<u8> {
    let from = (number * OUTCOMES_CHUNK) as usize;
    let to = outcomes.len().min(from + OUTCOMES_CHUNK as usize);
    [&[VERSION], outcomes.get(from..to).unwrap_or_default()].concat()
}

/// Reads a part of the outcomes; `None` where its version or bytes are not known.
pub(super) fn decode_outcomes(value: &[u8]) -> Option<&[u8]> {
    let (&VERSION, outcomes) = value.split_first()? else { return None };
    let known = |outcome: &u8| usize::from(*outcome) <= super::terms::OUTCOMES.len();
    (outcomes.len() <= OUTCOMES_CHUNK as usize && outcomes.iter().all(known)).then_some(outcomes)
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
