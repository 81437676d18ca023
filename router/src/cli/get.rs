//! `edgeway get`: the newest event of a key.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Failure;
use super::api::{Api, encoded};
use super::locate::NodeArgs;
use super::out::Out;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The topic
    topic: String,
    /// The key
    key: String,
    #[command(flatten)]
    node: NodeArgs,
}

pub fn run(args: &Args, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let path = format!("topics/{}/latest?key={}", encoded(&args.topic), encoded(&args.key));
    let line: Box<RawValue> = Api::to(&args.node)?.get(&path)?;
    if out.is_json() {
        return out.line(line.get());
    }
    let event: Value = serde_json::from_str(line.get()).unwrap_or_default();
    // The value alone, as it is, so that it can go into a file or a pipe.
    let bytes = match (event["value"].as_str(), event["value_base64"].as_str()) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, Some(text)) => BASE64.decode(text).unwrap_or_default(),
        (None, None) => Vec::new(),
    };
    out.raw(&bytes)?;
    if event["value"].is_string() && bytes.last() != Some(&b'\n') { out.line("") } else { Ok(()) }
}
