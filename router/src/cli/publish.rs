//! `edgeway publish`: one event, or one a line of standard input.

use std::collections::BTreeMap;
use std::io::{BufRead, Read, Write};
use std::time::Duration;

use super::api::{Api, encoded};
use super::locate::NodeArgs;
use super::out::Out;
use super::progress::Progress;
use super::{Failure, value};
use crate::admin::wire::{Publish, PublishEvent, Published};

/// Events sent with one call.
const EVENTS_MAX: usize = 1_000;
/// Bytes of values sent with one call, about.
const BYTES_MAX: usize = 512 << 10;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The topic
    topic: String,
    /// The key: chooses the partition, and what `get` finds the event by
    #[arg(long, short)]
    key: Option<String>,
    /// The value as text, @FILE for a file's content; without it, standard input is read
    #[arg(long, short, value_name = "TEXT|@FILE")]
    value: Option<String>,
    /// A header; may be given several times
    #[arg(long = "header", short = 'H', value_name = "NAME=VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// Every line of standard input is an event of its own
    #[arg(long, conflicts_with = "value")]
    lines: bool,
    /// Delete the key: publish an event without a value
    #[arg(long, requires = "key", conflicts_with_all = ["value", "lines"])]
    delete: bool,
    #[command(flatten)]
    node: NodeArgs,
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

impl Args {
    /// The event that is meant, with this value.
    fn event(&self, value: Option<Vec<u8>>) -> PublishEvent {
        let event = value.map(PublishEvent::with_value).unwrap_or_default();
        let headers: BTreeMap<String, String> = self.headers.iter().cloned().collect();
        PublishEvent { key: self.key.clone(), headers, ..event }
    }
}

pub fn run(args: &Args, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let api = Api::to(&args.node)?;
    let events = if args.lines {
        send_lines(&api, args)?
    } else {
        let value = match (&args.value, args.delete) {
            (_, true) => None,
            (Some(typed), _) => Some(value::read(typed)?),
            (None, _) => Some(read_all()?),
        };
        send(&api, &args.topic, vec![args.event(value)])?
    };
    let published = Published { topic: args.topic.clone(), events };
    let plural = if events == 1 { "event is" } else { "events are" };
    out.done(&published, &format!("{events} {plural} stored in topic {}", args.topic))
}

fn read_all() -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(value::BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::usage(format!("standard input cannot be read: {error}")))?;
    value::check_size("standard input", bytes)
}

fn send(api: &Api, topic: &str, events: Vec<PublishEvent>) -> Result<usize, Failure> {
    let body = serde_json::to_value(Publish { events }).unwrap_or_default();
    let published: Published = api.post(&format!("topics/{}/events", encoded(topic)), &body, Duration::ZERO)?;
    Ok(published.events)
}

/// Sends each line as an event; a line's end is not part of it.
fn send_lines(api: &Api, args: &Args) -> Result<usize, Failure> {
    let mut input = std::io::stdin().lock();
    let mut progress = Progress::start("events", None);
    let (mut waiting, mut bytes, mut sent) = (Vec::new(), 0, 0);
    loop {
        let mut line = Vec::new();
        let read = input.by_ref().take(value::BYTES_MAX + 1).read_until(b'\n', &mut line);
        let read = read.map_err(|error| Failure::usage(format!("standard input cannot be read: {error}")))?;
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        let line = value::check_size("a line", line)?;
        let ended = read == 0;
        if !ended {
            bytes += line.len();
            waiting.push(args.event(Some(line)));
        }
        if (ended && !waiting.is_empty()) || waiting.len() == EVENTS_MAX || bytes >= BYTES_MAX {
            sent += send(api, &args.topic, std::mem::take(&mut waiting))?;
            bytes = 0;
            progress.at(sent as u64);
        }
        if ended {
            progress.end();
            return Ok(sent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read() {
        assert_eq!(parse_header("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(parse_header("a="), Ok(("a".into(), String::new())));
        assert!(parse_header("=b").is_err());
        assert!(parse_header("a").is_err());
    }
}
