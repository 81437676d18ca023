//! `edgeway fleet`: simulated devices that send to a node, and what its log holds of what they sent.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use devices::client;
use devices::fleet::relay::{LineConfig, Relay};
use devices::fleet::{Config, Differences, Fault, Fleet, Found, Ledger, Outage, Source, Totals, Weather, compare};
use serde_json::json;
use tokio::runtime::Builder;

use super::api::{Api, encoded};
use super::locate::NodeArgs;
use super::out::Out;
use super::progress::Progress;
use super::{Exit, Failure, when};

/// How often the line that shows how far it is is written.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The longest wait of a device before it connects again.
const RECONNECT_MAX: Duration = Duration::from_secs(5);
/// Readings that each device buffers.
const BUFFERED_MAX: usize = 100_000;

/// How much an overheating device heats up, in °C.
const OVERHEAT: f64 = 60.0;
/// The mean number of readings from one spike to the next, and a spike's height in °C.
const SPIKES: (u32, f64) = (20, 40.0);

/// What may be wrong with a device.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum FaultKind {
    /// It heats up by 60 °C until it is cooled
    Overheat,
    /// It repeats its last reading
    Stuck,
    /// One reading in twenty is off by 40 °C
    Spikes,
}

impl From<FaultKind> for Fault {
    fn from(kind: FaultKind) -> Self {
        match kind {
            FaultKind::Overheat => Self::Overheat(OVERHEAT),
            FaultKind::Stuck => Self::Stuck,
            FaultKind::Spikes => Self::Spikes { every: SPIKES.0, height: SPIKES.1 },
        }
    }
}

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to: mqtt://HOST[:PORT], mqtts://…?pin=…, quic://HOST[:PORT]?pin=FINGERPRINT; else the node that runs on
    /// the data folder
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// To the node on the data folder by QUIC instead of MQTT
    #[arg(long, conflicts_with = "to")]
    quic: bool,
    /// How many devices
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    devices: usize,
    /// How long they send
    #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = when::parse_span)]
    lasts: Duration,
    /// Time between a device's readings
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = when::parse_span)]
    interval: Duration,
    /// How much faster than real their time runs: at 60 an hour's readings take a minute
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    speed: f64,
    /// Play a CSV of timestamp,value instead of simulated readings, at --speed (0: as fast as possible)
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// The same seed gives the same readings and the same weather
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// The beginning of the devices' names
    #[arg(long, value_name = "NAME", default_value = "sensor")]
    prefix: String,
    /// The last level of the readings' MQTT topic, sensors/DEVICE/METRIC
    #[arg(long, value_name = "NAME", default_value = "temperature")]
    metric: String,
    #[command(flatten)]
    trouble: Trouble,
    /// The topic that the node routes the readings to, for the comparison
    #[arg(long, value_name = "TOPIC", default_value = "mqtt")]
    topic: String,
    /// Do not compare with the log at the end
    #[arg(long)]
    no_compare: bool,
    /// How long the last acknowledgements may take
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = when::parse_span)]
    drain: Duration,
    #[command(flatten)]
    node: NodeArgs,
}

/// What befalls the devices.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Trouble")]
struct Trouble {
    /// What is wrong with the first devices, from the start
    #[arg(long, value_enum, value_name = "FAULT")]
    fault: Option<FaultKind>,
    /// How many have the fault
    #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "fault")]
    faulty: usize,
    /// The mean time between two breaks of a device's connection
    #[arg(long, value_name = "TIME", value_parser = when::parse_span)]
    churn: Option<Duration>,
    /// The time between two breaks of all connections at once
    #[arg(long, value_name = "TIME", value_parser = when::parse_span)]
    storm: Option<Duration>,
    /// No device is connected for so long
    #[arg(long, value_name = "TIME", value_parser = when::parse_span)]
    outage: Option<Duration>,
    /// When the outage begins
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = when::parse_span)]
    outage_after: Duration,
    /// Devices' clocks are wrong by up to this
    #[arg(long, value_name = "TIME", value_parser = when::parse_span)]
    skew: Option<Duration>,
    /// The percentage of datagrams that are lost (QUIC)
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    loss: f64,
    /// The link's one-way delay (QUIC)
    #[arg(long, value_name = "TIME", value_parser = when::parse_span)]
    delay: Option<Duration>,
    /// The link's rate, bits a second (QUIC)
    #[arg(long, value_name = "BITS")]
    rate: Option<u64>,
}

impl Trouble {
    fn weather(&self) -> Weather {
        let outage = self.outage.map(|lasts| Outage { after: self.outage_after, lasts });
        Weather { churn_every: self.churn, storm_every: self.storm, outage }
    }

    /// The bad link that is meant; `None`: none.
    fn line(&self) -> Option<LineConfig> {
        let is_meant = self.loss > 0.0 || self.delay.is_some() || self.rate.is_some();
        is_meant.then(|| LineConfig {
            bytes_per_s: self.rate.map(|bits| bits / 8),
            delay: self.delay.unwrap_or_default(),
            loss: self.loss / 100.0,
            ..LineConfig::default()
        })
    }
}

impl Args {
    /// Where the devices connect.
    fn url(&self) -> Result<String, Failure> {
        if let Some(url) = &self.to {
            return Ok(url.clone());
        }
        let data = self.node.data_dir();
        let read = |name: &str| {
            std::fs::read_to_string(data.join(name)).map(|text| text.trim().to_owned()).map_err(|_| {
                let what = format!("no node with this door runs on the data folder {}", data.display());
                let hint = "start one with `edgeway run` (--quic ADDR for QUIC), or name it with --to URL";
                Failure::new(Exit::Unreachable, what).hint(hint)
            })
        };
        if self.quic {
            return Ok(format!("quic://{}?pin={}", read("quic.addr")?, read("quic.fingerprint")?));
        }
        Ok(format!("mqtt://{}", read("mqtt.addr")?))
    }

    /// What the fleet is told.
    fn config(&self, run: &str) -> Result<Config, Failure> {
        let client = client::Config::from_url(&self.url()?, &self.prefix);
        let mut client = client.map_err(|error| Failure::usage(format!("--to: {error}")))?;
        client.backoff_max = RECONNECT_MAX;
        client.buffer.publishes_max = BUFFERED_MAX;
        let mut config = Config::of(client, self.devices);
        config.prefix.clone_from(&self.prefix);
        config.metric.clone_from(&self.metric);
        (config.interval, config.speed, config.seed) = (self.interval, self.speed, self.seed);
        config.skew = self.trouble.skew.unwrap_or_default();
        config.weather = self.trouble.weather();
        config.run = Some(run.to_owned());
        if let Some(path) = &self.replay {
            let source = Source::from_csv(path, self.speed);
            config.source = source.map_err(|error| Failure::usage(format!("--replay: {error}")))?;
            config.speed = 1.0;
        }
        Ok(config)
    }
}

/// What a run came to.
struct Ran {
    totals: Totals,
    ledgers: Vec<(String, Ledger)>,
}

pub fn run(args: &Args, out: &mut Out<impl Write>) -> Result<(), Failure> {
    if !(0.0..100.0).contains(&args.trouble.loss) {
        return Err(Failure::usage("--loss is a percentage from 0 to below 100"));
    }
    let run = format!("{:x}", when::now_ms());
    let config = args.config(&run)?;
    // Found before anything is sent: a comparison that cannot be made is told at once.
    let api = if args.no_compare { None } else { Some(Api::to(&args.node)?) };
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let ran = runtime.block_on(play(args, config))?;
    drop(runtime);
    let differences = match api {
        Some(api) => Some(compare_with_log(&api, &args.topic, &run, &ran.ledgers)?),
        None => None,
    };
    report(out, &ran, differences.as_ref())
}

async fn play(args: &Args, mut config: Config) -> Result<Ran, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::new(Exit::Failed, error.to_string());
    let mut relay = None;
    if let Some(line) = args.trouble.line() {
        let Some(node) = config.client.quic_address() else {
            return Err(Failure::usage("--loss, --delay and --rate need a quic:// address"));
        };
        let node = tokio::net::lookup_host(node).await.ok().and_then(|mut found| found.next());
        let node = node.ok_or_else(|| Failure::new(Exit::Unreachable, "the node's name has no address"))?;
        let started = Relay::start(node, line, args.seed).await.map_err(|error| failed(&error))?;
        config.client.redirect(started.address());
        relay = Some(started);
    }
    let fleet = Fleet::start(config).map_err(|error| failed(&error))?;
    if let Some(fault) = args.trouble.fault {
        for device in fleet.names().take(args.trouble.faulty) {
            // It is the fleet's own name.
            let _ = fleet.inject(device, fault.into());
        }
    }
    let begin = Instant::now();
    let mut progress = Progress::start("s", Some(args.lasts.as_secs()));
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    while begin.elapsed() < args.lasts && !(args.replay.is_some() && fleet.is_finished()) {
        progress.at(begin.elapsed().as_secs());
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = &mut interrupted => break,
        }
    }
    progress.end();
    let totals = fleet.totals();
    let ledgers = fleet.stop(args.drain).await;
    drop(relay);
    Ok(Ran { totals, ledgers })
}

/// What the log holds of this run's readings.
fn compare_with_log(api: &Api, topic: &str, run: &str, ledgers: &[(String, Ledger)]) -> Result<Differences, Failure> {
    let mut lines = api.get_stream(&format!("topics/{}/events?from=start", encoded(topic)))?;
    let mut progress = Progress::start("events compared", None);
    let (mut found, mut line, mut read) = (Vec::new(), String::new(), 0);
    loop {
        line.clear();
        let bytes = lines.read_line(&mut line).map_err(|error| {
            Failure::new(Exit::Unreachable, format!("the node broke off while topic {topic} was read: {error}"))
        })?;
        if bytes == 0 {
            break;
        }
        read += 1;
        progress.at(read);
        found.extend(Found::from_line(&line).filter(|found| found.run.as_deref() == Some(run)));
    }
    let accounts = ledgers.iter().map(|(device, ledger)| (device.as_str(), ledger));
    Ok(compare(accounts, found.iter().map(|found| (found.device.as_str(), found.seq))))
}

fn report(out: &mut Out<impl Write>, ran: &Ran, differences: Option<&Differences>) -> Result<(), Failure> {
    let sent: u64 = ran.ledgers.iter().map(|(_, ledger)| ledger.sent_count()).sum();
    let acked: u64 = ran.ledgers.iter().map(|(_, ledger)| ledger.acked_count()).sum();
    let totals = &ran.totals;
    if out.is_json() {
        let mut object = json!({
            "devices": ran.ledgers.len(), "sent": sent, "acknowledged": acked,
            "commands": totals.commands, "breaks": totals.breaks,
        });
        if let Some(differences) = differences {
            object["found"] = differences.found.into();
            object["missing"] = differences.missing.len().into();
            object["doubled"] = (differences.doubled.len() as u64 + differences.repeated).into();
            object["out_of_order"] = differences.out_of_order.len().into();
            object["unknown"] = differences.unknown.len().into();
            object["refused_but_found"] = differences.refused_but_found.len().into();
        }
        out.object(&object)?;
    } else {
        out.line(&format!(
            "{} devices sent {sent} readings, {acked} were acknowledged; {} connections broke, {} commands came",
            ran.ledgers.len(),
            totals.breaks,
            totals.commands
        ))?;
        if let Some(differences) = differences {
            let told = differences.told();
            let verdict = if told.is_empty() { "nothing is missing, doubled or out of order" } else { &told };
            out.line(&format!("the log holds {} of them; {verdict}", differences.found))?;
            if differences.repeated > 0 {
                out.line(&format!(
                    "{} were sent again after a break and are stored more than once (MQTT 3.1.1 permits it)",
                    differences.repeated
                ))?;
            }
        }
    }
    match differences.is_none_or(Differences::is_clean) && acked == sent {
        true => Ok(()),
        false if out.is_json() => Err(Failure::Shown(Exit::Failed)),
        false if acked < sent => {
            let what = format!("{} readings were not acknowledged in time", sent - acked);
            Err(Failure::new(Exit::Failed, what).hint("give them longer with --drain"))
        }
        false => Err(Failure::Shown(Exit::Failed)),
    }
}
