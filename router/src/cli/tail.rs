//! `edgeway tail`: a topic's events, once or as they come.

mod newest;

use std::io::{BufRead, Write};

use serde_json::Value;

use super::api::{Api, encoded};
use super::locate::NodeArgs;
use super::out::Out;
use super::table::printable;
use super::{Exit, Failure, when};
use crate::event_log::SITE_SEPARATOR;

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
    /// The topic of a site that feeds this one: the same as SITE/TOPIC
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    #[command(flatten)]
    node: NodeArgs,
}

impl Args {
    /// The topic's whole name.
    fn topic(&self) -> String {
        match &self.site {
            Some(site) => format!("{site}{SITE_SEPARATOR}{}", self.topic),
            None => self.topic.clone(),
        }
    }

    /// The call that is meant.
    fn path(&self, now_ms: i64) -> String {
        let mut path = format!(
            "topics/{}/events?from={}",
            encoded(&self.topic()),
            self.from.unwrap_or(when::From::Start).to_query(now_ms)
        );
        if self.follow {
            path.push_str("&follow=true");
        }
        if let Some(partition) = self.partition {
            path.push_str(&format!("&partition={partition}"));
        }
        if let Some(max) = self.max {
            path.push_str(&format!("&max={max}"));
        }
        path
    }
}

pub fn run(args: &Args, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let api = Api::to(&args.node)?;
    if let (Some(max), None, false) = (args.max, args.from, args.follow) {
        let lines = newest::lines(&api, &args.topic(), args.partition, max)?;
        return lines.iter().try_for_each(|line| show(line, out));
    }
    let mut lines = api.get_stream(&args.path(when::now_ms()))?;
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = lines.read_until(b'\n', &mut line).map_err(|error| {
            let what = format!("the node broke off: {error}");
            Failure::new(Exit::Unreachable, what).hint("call again with --from the next offset")
        })?;
        if read == 0 {
            return Ok(());
        }
        // An empty line is a sign of life.
        if line.trim_ascii().is_empty() {
            continue;
        }
        show(&line, out)?;
        // What has come is shown at once where more may be long in coming.
        if lines.buffer().is_empty() {
            out.flush()?;
        }
    }
}

/// One line of the node's answer, as it is or for people.
fn show(line: &[u8], out: &mut Out<impl Write>) -> Result<(), Failure> {
    if out.is_json() {
        return out.raw(line);
    }
    let text = serde_json::from_slice(line).map(|event| human(&event));
    out.line(&text.unwrap_or_else(|_| printable(&String::from_utf8_lossy(line))))
}

/// One event as a line for people: time, partition and offset, key, value.
fn human(event: &Value) -> String {
    let text = |name: &str| printable(event[name].as_str().unwrap_or("-"));
    if let Some(gap) = event.get("gap") {
        let (from, to) = (gap["from"].as_u64().unwrap_or(0), gap["to"].as_u64().unwrap_or(0));
        let reason = printable(gap["reason"].as_str().unwrap_or_default());
        let partition = &event["partition"];
        return format!("-- partition {partition}: offsets {from} to {} are gone ({reason})", to.saturating_sub(1));
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
    format!("{at}  {}/{}  {late}{key}  {value}", event["partition"], event["offset"])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn the_call_says_what_is_meant() {
        let typed = Args {
            topic: "a b".into(),
            from: Some(when::From::Ago(Duration::from_secs(1))),
            follow: true,
            partition: Some(2),
            max: Some(3),
            site: None,
            node: NodeArgs::default(),
        };
        assert_eq!(typed.path(5_000), "topics/a%20b/events?from=@4000&follow=true&partition=2&max=3");
        let far = Args { site: Some("plant-7".into()), ..typed };
        assert_eq!(far.path(5_000), "topics/plant-7%2Fa%20b/events?from=@4000&follow=true&partition=2&max=3");
        let typed = Args { site: None, ..far };
        let plain = Args { from: None, follow: false, partition: None, max: None, ..typed };
        assert_eq!(plain.path(0), "topics/a%20b/events?from=start");
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
        ];
        for (event, expected) in cases {
            assert_eq!(human(&event), expected);
        }
    }
}
