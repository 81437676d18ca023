//! `edgeway tail`: a topic's events, once or as they come.

mod detail;
mod newest;
mod origins;

use std::io::{BufRead, BufReader, Read, Write};

use serde_json::{Value, json};

use super::api::{Api, encoded};
use super::locate::NodeArgs;
use super::out::Out;
use super::table::printable;
use super::{Exit, Failure, when};
use crate::event_log::SITE_SEPARATOR;
use origins::Origins;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The topic
    topic: String,
    /// Where to begin: start, end, an offset, a time (RFC 3339), or an age such as -2h; else start, or with -n, and
    /// without --follow, so that the newest are shown
    #[arg(long, value_name = "FROM", value_parser = when::parse_from, allow_hyphen_values = true)]
    from: Option<when::From>,
    /// Go on with what comes
    #[arg(long, short)]
    follow: bool,
    /// One partition alone
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u32>,
    /// End after so many events; without --from the newest (at most 10000)
    #[arg(long, short = 'n', value_name = "NUMBER")]
    max: Option<u64>,
    /// Where to end: before a time (RFC 3339), or an age such as -1h
    #[arg(long, value_name = "TO", value_parser = when::parse_to, allow_hyphen_values = true, conflicts_with = "follow")]
    to: Option<when::From>,
    /// The topic of a site that feeds this one. With a time as --from the site itself is asked where it is connected, else what its link
    /// has brought here is shown: the same as SITE/TOPIC
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// Ask the site itself, for topics too that its link does not carry; nothing of it is kept here
    #[arg(long, requires = "site", conflicts_with_all = ["follow", "carried"])]
    detail: bool,
    /// Show what the link has brought here, whatever --from is
    #[arg(long, requires = "site")]
    carried: bool,
    /// Go on where an answer of a site broke off, as it said
    #[arg(long, value_name = "POSITION", requires = "site", conflicts_with_all = ["follow", "carried"])]
    after: Option<String>,
    #[command(flatten)]
    node: NodeArgs,
}

/// Where the events are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    /// Here.
    Here,
    /// At the site.
    Site,
    /// At the site, where it answers, else here.
    SiteOrHere,
}

impl Args {
    /// The topic's whole name.
    fn topic(&self) -> String {
        match &self.site {
            Some(site) => format!("{site}{SITE_SEPARATOR}{}", self.topic),
            None => self.topic.clone(),
        }
    }

    fn place(&self) -> Where {
        let is_time = matches!(self.from, Some(when::From::TimeMs(_) | when::From::Ago(_)));
        match self.site {
            Some(_) if self.detail || self.after.is_some() => Where::Site,
            Some(_) if is_time && !self.follow && !self.carried => Where::SiteOrHere,
            _ => Where::Here,
        }
    }

    /// The call that is meant, of what is here.
    fn path(&self, now_ms: i64) -> String {
        let mut path = format!("topics/{}/events?{}", encoded(&self.topic()), self.range(now_ms));
        if self.follow {
            path.push_str("&follow=true");
        }
        path
    }

    fn range(&self, now_ms: i64) -> String {
        let mut range = format!("from={}", self.from.unwrap_or(when::From::Start).to_query(now_ms));
        if let Some(to) = self.to {
            range.push_str(&format!("&to={}", to.to_query(now_ms)));
        }
        if let Some(partition) = self.partition {
            range.push_str(&format!("&partition={partition}"));
        }
        if let Some(max) = self.max {
            range.push_str(&format!("&max={max}"));
        }
        range
    }
}

pub fn run(args: &Args, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let api = Api::to(&args.node)?;
    match args.place() {
        Where::Here => here(args, &api, out),
        Where::Site => detail::tail(args, &api, out),
        Where::SiteOrHere => match detail::tail(args, &api, out) {
            Err(Failure::Told { exit: Exit::NotFound | Exit::Failed | Exit::Refused, what, .. }) => {
                let said = json!({"carried": {"reason": what}});
                out.aside(
                    &said,
                    &format!("{what}; this is what its link has brought here (--detail asks the site alone)"),
                );
                here(args, &api, out)
            }
            told => told,
        },
    }
}

/// Shows what is here.
fn here(args: &Args, api: &Api, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let mut origins = match out.is_json() {
        true => Origins::default(),
        false => Origins::of(api, &args.topic(), args.partition),
    };
    if let (Some(max), None, None, false) = (args.max, args.from, args.to, args.follow) {
        let lines = newest::lines(api, &args.topic(), args.partition, max)?;
        return lines.iter().try_for_each(|line| show(line, &mut origins, out));
    }
    let lines = api.get_stream(&args.path(when::now_ms()))?;
    pour(lines, |line, out| show(line, &mut origins, out), out)
        .map_err(|failure| failure.hint("call again with --from the next offset"))
}

/// Shows line after line as it comes, to the end.
fn pour<W: Write>(
    mut lines: BufReader<impl Read>,
    mut each: impl FnMut(&[u8], &mut Out<W>) -> Result<(), Failure>,
    out: &mut Out<W>,
) -> Result<(), Failure> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = lines
            .read_until(b'\n', &mut line)
            .map_err(|error| Failure::new(Exit::Unreachable, format!("the node broke off: {error}")))?;
        if read == 0 {
            return Ok(());
        }
        // An empty line is a sign of life.
        if line.trim_ascii().is_empty() {
            continue;
        }
        each(&line, out)?;
        // What has come is shown at once where more may be long in coming.
        if lines.buffer().is_empty() {
            out.flush()?;
        }
    }
}

/// One line of the node's answer, as it is or for people.
fn show(line: &[u8], origins: &mut Origins, out: &mut Out<impl Write>) -> Result<(), Failure> {
    if out.is_json() {
        return out.raw(line);
    }
    let text = serde_json::from_slice(line).map(|event| human(&event, origins.whose(&event).as_deref()));
    out.line(&text.unwrap_or_else(|_| printable(&String::from_utf8_lossy(line))))
}

/// One event as a line for people: time, whose it is where that is told, partition and offset, key, value.
fn human(event: &Value, whose: Option<&str>) -> String {
    let of = whose.map_or_else(String::new, |whose| format!("{}:", printable(whose)));
    let text = |name: &str| printable(event[name].as_str().unwrap_or("-"));
    if let Some(gap) = event.get("gap") {
        let (from, to) = (gap["from"].as_u64().unwrap_or(0), gap["to"].as_u64().unwrap_or(0));
        let reason = printable(gap["reason"].as_str().unwrap_or_default());
        let partition = &event["partition"];
        return format!("-- partition {of}{partition}: offsets {from} to {} are gone ({reason})", to.saturating_sub(1));
    }
    if let Some(missing) = event.get("missing") {
        let text = |name: &str| printable(missing[name].as_str().unwrap_or_default());
        return format!("-- gateway {}: events of it may be missing: {}", text("gateway"), text("reason"));
    }
    if let Some(gone) = event.get("gone") {
        let oldest = match gone["oldest_ms"].as_i64() {
            Some(ms) => format!("the oldest that is kept came {}", when::show_ms(ms)),
            None => "nothing is kept".to_owned(),
        };
        let partition = &event["partition"];
        return format!("-- partition {partition}: what was before offset {} is gone there; {oldest}", gone["before"]);
    }
    let at = when::show_ms(event["timestamp_ms"].as_i64().unwrap_or(i64::MAX));
    let key = match &event["key"] {
        Value::Object(bytes) => format!("base64:{}", printable(bytes["base64"].as_str().unwrap_or_default())),
        _ => text("key"),
    };
    let value = match event.get("value_base64") {
        Some(value) => format!("base64:{}", printable(value.as_str().unwrap_or_default())),
        None if event["value"].is_null() => "(deleted)".to_owned(),
        None => text("value"),
    };
    let late = if event["late"] == true { "late  " } else { "" };
    format!("{at}  {of}{}/{}  {late}{key}  {value}", event["partition"], event["offset"])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;

    #[test]
    fn the_call_says_what_is_meant() {
        let typed = Args {
            topic: "a b".into(),
            from: Some(when::From::Ago(Duration::from_secs(1))),
            follow: true,
            partition: Some(2),
            max: Some(3),
            to: None,
            site: None,
            detail: false,
            carried: false,
            after: None,
            node: NodeArgs::default(),
        };
        assert_eq!(typed.path(5_000), "topics/a%20b/events?from=@4000&partition=2&max=3&follow=true");
        let far = Args { site: Some("plant-7".into()), ..typed };
        assert_eq!(far.path(5_000), "topics/plant-7%2Fa%20b/events?from=@4000&partition=2&max=3&follow=true");
        let typed = Args { site: None, ..far };
        let plain = Args { from: None, follow: false, partition: None, max: None, ..typed };
        assert_eq!(plain.path(0), "topics/a%20b/events?from=start");
    }

    #[test]
    fn a_site_is_asked_for_a_range_of_time_unless_it_is_said_otherwise() {
        // what is typed, where it is read
        let cases = [
            ("t", Where::Here),
            ("t --from -2h", Where::Here),
            ("t --site plant-7", Where::Here),
            ("t --site plant-7 --from start", Where::Here),
            ("t --site plant-7 --from 12", Where::Here),
            ("t --site plant-7 --from -2h", Where::SiteOrHere),
            ("t --site plant-7 --from -2h --to -1h -n 5", Where::SiteOrHere),
            ("t --site plant-7 --from 2026-11-21T08:00:00Z", Where::SiteOrHere),
            ("t --site plant-7 --from -2h --follow", Where::Here),
            ("t --site plant-7 --from -2h --carried", Where::Here),
            ("t --site plant-7 --detail", Where::Site),
            ("t --site plant-7 --from 12 --detail", Where::Site),
            ("t --site plant-7 --after 00000000000000ab/0:7", Where::Site),
        ];
        for (typed, place) in cases {
            let typed = Typed::try_parse_from(std::iter::once("tail").chain(typed.split(' ')));
            assert_eq!(typed.map(|typed| typed.args.place()).map_err(|error| error.to_string()), Ok(place));
        }
        for wrong in [
            "t --detail",
            "t --site p --detail --follow",
            "t --to -1h --follow",
            "t --to 5",
            "t --site p --detail --carried",
        ] {
            assert!(Typed::try_parse_from(std::iter::once("tail").chain(wrong.split(' '))).is_err(), "{wrong}");
        }
    }

    #[derive(clap::Parser)]
    struct Typed {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn events_are_lines_that_do_not_steer_the_terminal() {
        let cases = [
            (
                json!({"partition": 1, "offset": 2, "timestamp_ms": i64::MAX, "key": "k", "value": "a\u{1b}[2Jb"}),
                "-  1/2  k  a?[2Jb",
            ),
            (
                json!({"partition": 1, "offset": 2, "timestamp_ms": i64::MAX, "key": null, "value_base64": "/w=="}),
                "-  1/2  -  base64:/w==",
            ),
            (
                json!({"partition": 1, "offset": 2, "timestamp_ms": i64::MAX, "late": true, "key": "k", "value": "v"}),
                "-  1/2  late  k  v",
            ),
            (
                json!({"partition": 0, "offset": 0, "timestamp_ms": i64::MAX, "key": {"base64": "/w=="}, "value": null}),
                "-  0/0  base64:/w==  (deleted)",
            ),
            (
                json!({"partition": 4, "gap": {"from": 1, "to": 9, "reason": "retention"}}),
                "-- partition 4: offsets 1 to 8 are gone (retention)",
            ),
            (
                json!({"partition": 4, "gone": {"before": 9, "oldest_ms": null, "reason": "retention"}}),
                "-- partition 4: what was before offset 9 is gone there; nothing is kept",
            ),
        ];
        for (event, expected) in cases {
            assert_eq!(human(&event, None), expected);
        }
        let event = json!({"partition": 1, "offset": 2, "timestamp_ms": i64::MAX, "key": "k", "value": "v"});
        assert_eq!(human(&event, Some("n2")), "-  n2:1/2  k  v");
    }
}
