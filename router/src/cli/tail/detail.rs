//! A range of a topic, asked of the site that has it.

use std::io::Write;

use serde_json::{Value, json};

use super::origins::Origins;
use super::{Args, pour, show};
use crate::cli::api::{Api, encoded};
use crate::cli::out::Out;
use crate::cli::{Exit, Failure, when};

/// Shows what the site sends.
///
/// # Errors
/// Before the first line where the site does not answer; later where its answer broke off, with how to go on.
pub(super) fn tail(args: &Args, api: &Api, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let Some(site) = &args.site else { return Err(Failure::usage("--detail is of a --site")) };
    if args.max.is_some() && args.from.is_none() && args.after.is_none() {
        let failure = Failure::usage("the newest events of a site are not known before they are asked for");
        return Err(failure.hint("say --from, such as --from -10m"));
    }
    let now_ms = when::now_ms();
    let mut path = format!("links/{}/topics/{}/events?{}", encoded(site), encoded(&args.topic), args.range(now_ms));
    if let Some(after) = &args.after {
        path.push_str(&format!("&after={}", encoded(after)));
    }
    let (mut cut, mut is_gone, mut events) = (None, false, 0);
    let lines = api.get_stream(&path)?;
    let mut origins = Origins::default();
    let poured = pour(
        lines,
        |line, out| {
            let parsed: Value = serde_json::from_slice(line).unwrap_or_default();
            is_gone |= parsed.get("gone").is_some();
            events += u64::from(parsed.get("offset").is_some());
            cut = parsed.get("cut").cloned();
            // Programs are told of it too, as the last line.
            if cut.is_some() && !out.is_json() { Ok(()) } else { show(line, &mut origins, out) }
        },
        out,
    );
    if is_gone {
        out.aside(
            &json!({"hint": "part of the range may be gone at the site"}),
            "part of the range may be gone at the site by retention: keep the topic longer there, or let its link carry it",
        );
    }
    match cut {
        Some(cut) => Err(broken_off(args, site, now_ms, &cut, events)),
        None => poured.map_err(|failure| failure.hint("call again with --from the time of the last event")),
    }
}

/// What is said where not all came.
fn broken_off(args: &Args, site: &str, now_ms: i64, cut: &Value, events: u64) -> Failure {
    let reason = cut["reason"].as_str().unwrap_or_default();
    let mut again = format!("edgeway tail {} --site {site} --detail", args.topic);
    for (flag, at) in [("--from", args.from), ("--to", args.to)] {
        again.push_str(&at.map_or_else(String::new, |at| format!(" {flag} {}", at.absolute(now_ms))));
    }
    if let Some(partition) = args.partition {
        again.push_str(&format!(" --partition {partition}"));
    }
    if let Some(max) = args.max {
        again.push_str(&format!(" -n {}", max.saturating_sub(events)));
    }
    let after = cut["after"].as_str().unwrap_or_default();
    Failure::new(Exit::Unreachable, reason).hint(format!("go on with: {again} --after {after}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::locate::NodeArgs;

    #[test]
    fn what_broke_off_says_how_to_go_on() {
        let args = Args {
            topic: "t".into(),
            from: Some(when::From::Ago(Duration::from_secs(2))),
            follow: false,
            partition: Some(1),
            max: Some(9),
            to: Some(when::From::TimeMs(1_500)),
            site: Some("plant-7".into()),
            detail: false,
            carried: false,
            after: None,
            node: NodeArgs::default(),
        };
        let cut = json!({"reason": "no answer", "after": "00000000000000ab/0:7"});
        let Failure::Told { exit, what, hint, .. } = broken_off(&args, "plant-7", 3_000, &cut, 4) else { panic!() };
        assert_eq!((exit, &*what), (Exit::Unreachable, "no answer"));
        let again = "edgeway tail t --site plant-7 --detail --from 1970-01-01T00:00:01Z --to 1970-01-01T00:00:01.5Z \
                     --partition 1 -n 5 --after 00000000000000ab/0:7";
        assert_eq!(hint, format!("go on with: {again}"));
    }
}
