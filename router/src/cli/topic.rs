//! `edgeway topic`: what there is, made, shown and deleted.

use std::io::Write;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{Api, encoded};
use super::locate::NodeArgs;
use super::out::Out;
use super::table::{Table, bytes};
use super::{Failure, when};
use crate::admin::wire::{DurabilityName, NewTopic, TopicView};
use crate::config::CompressionName;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the topics
    List {
        /// The node's own topics too
        #[arg(long, short)]
        all: bool,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Make a topic
    Create {
        #[command(flatten)]
        new: Create,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Delete a topic and its events
    Delete {
        /// The topic
        topic: String,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Show a topic and what its partitions hold
    Show {
        /// The topic
        topic: String,
        #[command(flatten)]
        node: NodeArgs,
    },
}

/// A topic as it is typed; what is left out has the node's default.
#[derive(Debug, clap::Args)]
#[group(skip)]
struct Create {
    /// The topic: a-z, A-Z, 0-9, '.', '_' and '-'
    topic: String,
    /// Number of partitions, fixed for the topic's life
    #[arg(long, value_name = "NUMBER")]
    partitions: Option<u32>,
    /// Compression of its batches
    #[arg(long, value_enum)]
    compression: Option<Compression>,
    /// When its events are acknowledged
    #[arg(long, value_enum)]
    durability: Option<Durability>,
    /// Age after which events may go, such as 7d; 0s keeps them
    #[arg(long, value_name = "SPAN", value_parser = when::parse_span)]
    retention: Option<Duration>,
    /// Stored bytes that one partition keeps at most; 0 sets no bound
    #[arg(long, value_name = "BYTES")]
    retention_bytes: Option<u64>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Compression {
    None,
    Lz4,
    Zstd,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Durability {
    /// After the disk has them
    Sync,
    /// At once; a power cut may lose them
    Memory,
    /// After the disks of most voters of the site have them
    Quorum,
}

impl From<Create> for NewTopic {
    fn from(typed: Create) -> Self {
        Self {
            name: typed.topic,
            partitions: typed.partitions,
            compression: typed.compression.map(|name| match name {
                Compression::None => CompressionName::None,
                Compression::Lz4 => CompressionName::Lz4,
                Compression::Zstd => CompressionName::Zstd,
            }),
            durability: typed.durability.map(|name| match name {
                Durability::Sync => DurabilityName::Sync,
                Durability::Memory => DurabilityName::Memory,
                Durability::Quorum => DurabilityName::Quorum,
            }),
            retention_ms: typed.retention.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
            retention_bytes: typed.retention_bytes,
        }
    }
}

#[derive(Deserialize)]
struct Topics {
    topics: Vec<TopicView>,
}

pub fn run(args: Args, out: &mut Out<impl Write>) -> Result<(), Failure> {
    match args.action {
        Action::List { all, node } => list(&Api::to(&node)?, all, out),
        Action::Create { new, node } => create(&Api::to(&node)?, new.into(), out),
        Action::Delete { topic, node } => {
            Api::to(&node)?.delete(&format!("topics/{}", encoded(&topic)))?;
            out.done(&json!({"deleted": topic}), &format!("topic {topic} is deleted"))
        }
        Action::Show { topic, node } => {
            let view: TopicView = Api::to(&node)?.get(&format!("topics/{}", encoded(&topic)))?;
            show(&view, out)
        }
    }
}

fn list(api: &Api, all: bool, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let Topics { topics } = api.get("topics")?;
    let shown: Vec<&TopicView> = topics.iter().filter(|topic| all || !topic.internal).collect();
    if out.is_json() {
        return shown.iter().try_for_each(|topic| out.object(topic));
    }
    let internal = topics.len() - shown.len();
    let mut table = Table::new(&["TOPIC", ">PARTITIONS", ">EVENTS", "COMPRESSION", "DURABILITY", "RETENTION"]);
    for topic in shown {
        let (compression, durability) = (word(&topic.compression), word(&topic.durability));
        table.row([
            topic.name.clone(),
            topic.partitions.to_string(),
            topic.events.to_string(),
            compression,
            durability,
            retention(topic),
        ]);
    }
    out.table(&table, "no topics yet; the first publish makes one, or `edgeway topic create`")?;
    match internal {
        0 => Ok(()),
        count => out.line(&format!("and {count} of the node's own; `edgeway topic list --all` shows them")),
    }
}

fn create(api: &Api, new: NewTopic, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let body = serde_json::to_value(&new).unwrap_or_default();
    let view: TopicView = api.post("topics", &body, Duration::ZERO)?;
    let text = format!("topic {} is made, with {} partitions", view.name, view.partitions);
    out.done(&view, &text)
}

fn show(view: &TopicView, out: &mut Out<impl Write>) -> Result<(), Failure> {
    if out.is_json() {
        return out.object(view);
    }
    let (compression, durability) = (word(&view.compression), word(&view.durability));
    out.line(&format!("topic        {}", view.name))?;
    out.line(&format!("id           {}", view.id))?;
    out.line(&format!("compression  {compression}"))?;
    out.line(&format!("durability   {durability}"))?;
    out.line(&format!("retention    {}", retention(view)))?;
    out.line("")?;
    let mut table = Table::new(&[">PARTITION", "ORIGIN", ">FIRST", ">NEXT", ">EVENTS"]);
    let mut extents: Vec<_> = view.extents.iter().collect();
    extents.sort_by_key(|extent| extent.partition);
    for extent in extents {
        let events = extent.end.saturating_sub(extent.start);
        let numbers = [extent.start, extent.end, events].map(|number| number.to_string());
        let [start, end, events] = numbers;
        let origin = extent.node.clone().unwrap_or_else(|| extent.origin.clone());
        table.row([extent.partition.to_string(), origin, start, end, events]);
    }
    out.table(&table, "no partitions")
}

/// A setting's name as it is typed.
fn word(setting: &impl serde::Serialize) -> String {
    match serde_json::to_value(setting) {
        Ok(Value::String(name)) => name,
        _ => String::new(),
    }
}

fn retention(topic: &TopicView) -> String {
    let age = topic.retention_ms.map(|ms| when::show_span(Duration::from_millis(ms)));
    let size = topic.retention_bytes.map(bytes);
    match (age, size) {
        (None, None) => "kept".to_owned(),
        (age, size) => age.into_iter().chain(size).collect::<Vec<_>>().join(", "),
    }
}
