//! A job as people see it.

use std::io::Write;
use std::time::Duration;

use devices::command::{DELIVER_WITHIN_DEFAULT_MS, EXECUTION_TIMEOUT_DEFAULT_MS, Payload};

use crate::cli::out::Out;
use crate::cli::table::printable;
use crate::cli::{Failure, when};
use crate::commands::{JobInfo, JobState, Outcomes};

pub(super) fn show(job: &JobInfo, out: &mut Out<impl Write>) -> Result<(), Failure> {
    if out.is_json() {
        return out.object(job);
    }
    lines(job).iter().try_for_each(|(name, value)| out.line(&format!("{name:<11} {}", printable(value))))
}

/// Names and values.
pub(super) fn lines(job: &JobInfo) -> Vec<(&'static str, String)> {
    let time = |ms: u64| when::show_ms(i64::try_from(ms).unwrap_or(i64::MAX));
    let by = if job.changed_by == "job" { "itself" } else { &job.changed_by };
    let state = match job.state {
        JobState::Running | JobState::Done => job.state.as_str().to_owned(),
        JobState::Aborted => {
            let above =
                job.abort_above.map_or_else(String::new, |above| format!(": more than {above} did not succeed"));
            format!("aborted{above}")
        }
        state => format!("{} by {by}", state.as_str()),
    };
    // What was submitted goes to its own end, whatever became of the job.
    let out_still = job.submitted.saturating_sub(job.outcomes.total());
    let state = match job.state {
        JobState::Cancelled | JobState::Aborted if out_still > 0 => {
            format!("{state}; {} with devices still", many(out_still, "command"))
        }
        _ => state,
    };
    let span = |ms: Option<u64>, default_ms| when::show_span(Duration::from_millis(ms.unwrap_or(default_ms)));
    let mut lines = vec![
        ("job", job.id.to_string()),
        ("where", job.filter.clone()),
        ("command", job.name.clone()),
        ("payload", payload(&job.payload)),
        ("state", state),
        ("issued by", job.issued_by.clone()),
        ("started", time(job.at_ms)),
        ("changed", time(job.changed_ms)),
        ("rate", format!("{} a second", job.rate)),
        ("deliver by", format!("{} from its turn on", span(job.deliver_within_ms, DELIVER_WITHIN_DEFAULT_MS))),
        ("timeout", span(job.execution_timeout_ms, EXECUTION_TIMEOUT_DEFAULT_MS)),
    ];
    lines.extend(job.abort_above.map(|above| ("abort", format!("above {above} that did not succeed"))));
    lines.push(("devices", job.total.to_string()));
    lines.push(("submitted", job.submitted.to_string()));
    lines.push(("pending", out_still.to_string()));
    lines.push(("ended", job.outcomes.total().to_string()));
    lines.push(("outcomes", outcomes(&job.outcomes)));
    lines.retain(|(_, value)| !value.is_empty());
    lines
}

fn payload(payload: &Payload) -> String {
    match std::str::from_utf8(&payload.0) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("{} bytes that are no text", payload.0.len()),
    }
}

/// The outcomes that there are, each with its number.
pub(super) fn outcomes(outcomes: &Outcomes) -> String {
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

/// A number of things in words.
pub(super) fn many(count: u32, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
