//! `edgeway run`: the node, until it is told to stop.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::ValueEnum;
use sled_data::OpenError;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::locate::in_environment;
use super::{Exit, Failure};
use crate::config::{self, Config, ConfigError};
use crate::event_log::FULL_ADVICE;
use crate::node::{Node, OwnEnd, StartError};

/// Names what is logged, such as `info` or `warn,edgeway::mqtt=debug`.
const FILTER_ENV: &str = "EDGEWAY_LOG";
/// Where the consensus's own lines come from.
const CONSENSUS_TARGET: &str = "openraft";

/// Threads that serve sockets.
const WORKERS: usize = 2;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// The configuration file; else EDGEWAY_CONFIG; without one, every setting has its default
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data folder, instead of [node] data; else EDGEWAY_DATA
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where MQTT listens, instead of [listen] mqtt; 0.0.0.0:1883 for devices on other machines
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    mqtt: Option<SocketAddr>,
    /// Where MQTT over TLS listens, instead of [listen] mqtts; its standard port is 8883
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    mqtts: Option<SocketAddr>,
    /// Where the HTTP API listens, instead of [listen] http
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    http: Option<SocketAddr>,
    /// Where QUIC listens (UDP), instead of [listen] quic; its standard port is 14567
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    quic: Option<SocketAddr>,
    /// Where the site's other nodes reach this one (UDP), instead of [site] listen; 0.0.0.0:14569 is usual
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    site_listen: Option<SocketAddr>,
    /// HOST:PORT by which the other nodes reach this one, instead of [site] address
    #[arg(long, value_name = "HOST:PORT")]
    site_address: Option<String>,
    /// Check the configuration and end
    #[arg(long)]
    check: bool,
    /// How log lines look; EDGEWAY_LOG says which (info, debug, warn,edgeway::mqtt=debug, ...)
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    log_format: LogFormat,
}

fn parse_addr(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected an address with a port, such as 127.0.0.1:1883 or [::]:1883".to_owned())
}

impl Args {
    /// What is meant: the file, with what was typed on top.
    fn to_config(&self) -> Result<Config, ConfigError> {
        let file = self.config.clone().or_else(|| in_environment("EDGEWAY_CONFIG").map(PathBuf::from));
        let mut config = match file {
            Some(path) => config::load(&path)?,
            None => Config::default(),
        };
        if let Some(data) = self.data.clone().or_else(|| in_environment("EDGEWAY_DATA").map(PathBuf::from)) {
            config.node.data = data;
        }
        if let Some(addr) = self.mqtt {
            config.listen.mqtt = addr;
        }
        if let Some(addr) = self.http {
            config.listen.http = addr;
        }
        config.listen.mqtts = self.mqtts.or(config.listen.mqtts);
        config.listen.quic = self.quic.or(config.listen.quic);
        config.site.listen = self.site_listen.or(config.site.listen);
        config.site.address = self.site_address.clone().or(config.site.address);
        config.check()?;
        Ok(config)
    }
}

pub fn run(args: Args) -> Result<(), Failure> {
    let config = args.to_config().map_err(|error| Failure::usage(error.to_string()))?;
    if args.check {
        return Ok(());
    }
    start_logging(args.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let runtime = runtime.map_err(|error| failed(&error))?;
    runtime.block_on(serve(config)).map_err(|error| match error.downcast_ref() {
        Some(StartError::Store { error: OpenError::Damaged(_) | OpenError::Shorter { .. }, .. }) => {
            let hint = "`edgeway store salvage --data DIR --to NEW_DIR` makes a new one of what it still holds";
            Failure::new(Exit::Damaged, error.to_string()).hint(hint)
        }
        Some(StartError::Store { error: why, .. }) if is_out_of_space(why) => failed(error.as_ref()).hint(FULL_ADVICE),
        _ => failed(error.as_ref()),
    })
}

/// Whether the disk has no room to open the store.
fn is_out_of_space(error: &OpenError) -> bool {
    match error {
        OpenError::Full => true,
        OpenError::Io(text) => text.contains("No space left on device"),
        _ => false,
    }
}

async fn serve(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    // Before the start, which may wait for others: who asks it to stop meanwhile is heard after it, and the store is closed in order.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let node = Node::start(config).await?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("asked to stop"),
        _ = interrupt.recv() => tracing::info!("interrupted"),
        end = node.must_stop() => {
            tracing::warn!(%end, "the node stops by itself");
            node.stop().await;
            return if end == OwnEnd::Left { Ok(()) } else { Err(end.into()) };
        }
    }
    node.stop().await;
    Ok(())
}

fn failed(error: &dyn std::error::Error) -> Failure {
    Failure::new(Exit::Failed, error.to_string())
}

fn start_logging(format: LogFormat) -> Result<(), Failure> {
    let given = std::env::var(FILTER_ENV).unwrap_or_default();
    let filter = log_filter(&given)?;
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Human => registry.with(lines).init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).init(),
    }
    Ok(())
}

/// Which lines are logged: a level, or pairs of a module and a level; by itself `info`, without the consensus's own
/// lines: it has one for each question that a node does not answer. What matters of them is logged by the catalog.
fn log_filter(given: &str) -> Result<Targets, Failure> {
    if given.trim().is_empty() {
        return Ok(Targets::new().with_default(tracing::Level::INFO).with_target(CONSENSUS_TARGET, LevelFilter::OFF));
    }
    let filter: Targets = given.parse().map_err(|error| {
        Failure::usage(format!("{FILTER_ENV}: {error}"))
            .hint("expected a level, or pairs such as warn,edgeway::mqtt=debug")
    })?;
    let filter = match given.contains(CONSENSUS_TARGET) {
        true => filter,
        false => filter.with_target(CONSENSUS_TARGET, LevelFilter::OFF),
    };
    Ok(match filter.default_level() {
        Some(_) => filter,
        None => filter.with_default(tracing::Level::INFO),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn what_is_logged_is_a_level_or_pairs() {
        let takes = |given: &str, target: &str, level| log_filter(given).unwrap().would_enable(target, &level);
        use tracing::Level;
        assert!(takes("", "edgeway", Level::INFO) && !takes("", "edgeway", Level::DEBUG));
        let consensus = "openraft";
        assert!(!takes("", consensus, Level::ERROR) && !takes("debug", consensus, Level::ERROR));
        assert!(takes("openraft=warn", consensus, Level::WARN));
        assert!(takes("warn,edgeway::mqtt=debug", "edgeway::mqtt::task", Level::DEBUG));
        assert!(!takes("warn,edgeway::mqtt=debug", "edgeway::quic", Level::INFO));
        assert!(takes("edgeway::mqtt=debug", "edgeway::quic", Level::INFO), "the rest stays as it is by itself");
        assert!(log_filter("edgeway=loud").is_err());
    }

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        args: Args,
    }

    fn typed(words: &[&str]) -> Result<Config, String> {
        let words = ["run"].iter().chain(words);
        let typed = Typed::try_parse_from(words).map_err(|error| error.to_string())?;
        typed.args.to_config().map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_typed_wins_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("edgeway.toml");
        std::fs::write(&file, "[node]\nname = 'n1'\n[listen]\nmqtt = '127.0.0.1:1'\nhttp = '127.0.0.1:2'").unwrap();
        let file = file.to_str().unwrap();
        let config = typed(&["--config", file, "--mqtt", "[::1]:3", "--data", "/d"]).unwrap();
        assert_eq!((config.node.name.as_str(), config.listen.mqtt.port(), config.listen.http.port()), ("n1", 3, 2));
        assert_eq!(config.node.data, PathBuf::from("/d"));
    }

    #[test]
    fn mistakes_say_what_was_expected() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("edgeway.toml");
        std::fs::write(&file, "[mqtt]\npacket_bytes_max = 'large'").unwrap();
        let file = file.to_str().unwrap();
        let cases: [(&[&str], &str); 4] = [
            (&["--mqtt", "1883"], "expected an address with a port"),
            (&["--config", "/nowhere"], "/nowhere cannot be read"),
            (&["--config", file], "edgeway.toml:2:20: invalid type: string \"large\", expected u32"),
            (&["--data", ""], "--data"),
        ];
        for (words, expected) in cases {
            let error = typed(words).unwrap_err();
            assert!(error.contains(expected), "{words:?}: {error}");
        }
    }

    #[test]
    fn the_service_file_starts_what_there_is() {
        let unit = include_str!("../../../packaging/edgeway.service");
        let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/edgeway ")).unwrap();
        let words: Vec<&str> = start.split(' ').collect();
        let typed = Typed::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(typed.args.data, Some(PathBuf::from("/var/lib/edgeway")));
        assert_eq!(typed.args.log_format, LogFormat::Json);
    }
}
