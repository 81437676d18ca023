//! A node under measurement: the release binary on a folder of its own.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::bench::error::{BenchError, io};

/// Connections to the HTTP API that are kept.
const CALLERS_MAX: usize = 32;
/// How long a node may take until it is ready, and to stop.
const START_MAX: Duration = Duration::from_secs(120);
const STOP_MAX: Duration = Duration::from_secs(60);
/// A free port of the loopback interface.
pub const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// How often a starting node is asked.
const ASK_EVERY: Duration = Duration::from_millis(1);

/// What the node is told: readings go to one topic, by device.
const CONFIG: &str = "\
[[routing.rules]]
pattern = 'sensors/{device}/{metric}'
topic = 'telemetry'
key = '{device}'
";

/// A running node, killed when this is dropped.
#[derive(Debug)]
pub struct Node {
    binary: PathBuf,
    data: PathBuf,
    child: Child,
    /// Keeps connections to the HTTP API.
    agent: ureq::Agent,
    token: std::sync::OnceLock<String>,
    /// Where MQTT clients connect.
    pub mqtt: SocketAddr,
    /// Where the HTTP API listens.
    pub http: SocketAddr,
    /// From the start of the process to the first positive `/readyz`.
    pub ready_after: Duration,
}

impl Node {
    /// Starts a node on a store in `data`, which may be there already, on free ports.
    pub fn start(binary: &Path, data: &Path) -> Result<Node, BenchError> {
        Node::start_at(binary, data, NOWHERE)
    }

    /// The same with the QUIC door open.
    pub fn start_with_quic(binary: &Path, data: &Path) -> Result<Node, BenchError> {
        Node::start_with(binary, data, NOWHERE, &["--quic", &NOWHERE.to_string()])
    }

    /// Starts a node whose MQTT clients know its address.
    pub fn start_at(binary: &Path, data: &Path, mqtt: SocketAddr) -> Result<Node, BenchError> {
        Node::start_with(binary, data, mqtt, &[])
    }

    /// Starts a node with further arguments.
    pub fn start_with(binary: &Path, data: &Path, mqtt: SocketAddr, more: &[&str]) -> Result<Node, BenchError> {
        Node::start_configured(binary, data, mqtt, more, "")
    }

    /// Starts a node with further arguments and settings.
    pub fn start_configured(
        binary: &Path,
        data: &Path,
        mqtt: SocketAddr,
        more: &[&str],
        settings: &str,
    ) -> Result<Node, BenchError> {
        fs::create_dir_all(data).map_err(io(format!("making {}", data.display())))?;
        for stale in ["mqtt.addr", "admin.addr", "quic.addr"] {
            // Not there on a fresh store.
            let _ = fs::remove_file(data.join(stale));
        }
        let config = data.with_extension("toml");
        fs::write(&config, format!("{CONFIG}\n{settings}")).map_err(io(format!("writing {}", config.display())))?;
        let log = log_file(data)?;
        let errors = log.try_clone().map_err(io("opening the node's log"))?;
        let started = Instant::now();
        let child = Command::new(binary)
            .args(["run", "--mqtt", &mqtt.to_string(), "--http", &NOWHERE.to_string(), "--data"])
            .arg(data)
            .arg("--config")
            .arg(&config)
            .args(more)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(io(format!("starting {}", binary.display())))?;
        let mut node = Node {
            binary: binary.to_owned(),
            data: data.to_owned(),
            child,
            agent: ureq::Agent::config_builder().max_idle_connections_per_host(CALLERS_MAX).build().into(),
            token: std::sync::OnceLock::new(),
            mqtt: NOWHERE,
            http: NOWHERE,
            ready_after: Duration::ZERO,
        };
        node.wait_ready(started)?;
        Ok(node)
    }

    fn wait_ready(&mut self, started: Instant) -> Result<(), BenchError> {
        while started.elapsed() < START_MAX {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(BenchError::Program(format!("the node ended with {status}, {}", self.log_tail())));
            }
            if let (Some(http), Some(mqtt)) = (self.address("admin.addr"), self.address("mqtt.addr")) {
                (self.http, self.mqtt) = (http, mqtt);
                if self.get("/readyz").is_ok() {
                    self.ready_after = started.elapsed();
                    return Ok(());
                }
            }
            std::thread::sleep(ASK_EVERY);
        }
        Err(BenchError::Timeout { what: format!("the node's start, {}", self.log_tail()), limit: START_MAX })
    }

    fn address(&self, file: &str) -> Option<SocketAddr> {
        fs::read_to_string(self.data.join(file)).ok()?.trim().parse().ok()
    }

    /// Where the QUIC door listens, and its certificate's fingerprint.
    pub fn quic(&self) -> Result<(SocketAddr, String), BenchError> {
        let fingerprint =
            fs::read_to_string(self.data.join("quic.fingerprint")).map_err(io("reading the fingerprint"))?;
        let address = self.address("quic.addr");
        Ok((address.ok_or_else(|| BenchError::Program("the node has no QUIC door".to_owned()))?, fingerprint))
    }

    fn log_tail(&self) -> String {
        let text = fs::read_to_string(log_path(&self.data)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        format!("its log's end, newest first:\n{}", lines.join("\n"))
    }

    /// The node's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The folder of its store.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The body of a GET with the node's token.
    pub fn get(&self, path: &str) -> Result<String, BenchError> {
        let token = fs::read_to_string(self.data.join("admin.token")).unwrap_or_default();
        let answer = ureq::get(format!("http://{}{path}", self.http))
            .header("Authorization", format!("Bearer {}", token.trim()))
            .call();
        let answer = answer.and_then(|mut answer| answer.body_mut().with_config().limit(u64::MAX).read_to_string());
        answer.map_err(|error| BenchError::Program(format!("GET {path}: {error}")))
    }

    /// POST of JSON with the node's token, and the body of the answer.
    pub fn post(&self, path: &str, body: &serde_json::Value) -> Result<String, BenchError> {
        let answer = self
            .agent
            .post(format!("http://{}{path}", self.http))
            .header("Authorization", format!("Bearer {}", self.token()))
            .send_json(body);
        let answer = answer.and_then(|mut answer| answer.body_mut().with_config().limit(u64::MAX).read_to_string());
        answer.map_err(|error| BenchError::Program(format!("POST {path}: {error}")))
    }

    fn token(&self) -> &str {
        self.token.get_or_init(|| {
            let token = fs::read_to_string(self.data.join("admin.token")).unwrap_or_default();
            token.trim().to_owned()
        })
    }

    /// Runs the command-line tool against this node.
    pub fn cli(&self, args: &[&str]) -> Result<String, BenchError> {
        cli(&self.binary, &self.data, args)
    }

    /// Stops it in order, as systemd would.
    pub fn stop(mut self) -> Result<(), BenchError> {
        let asked = Instant::now();
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM).map_err(|error| io("stopping the node")(error.into()))?;
        }
        while asked.elapsed() < STOP_MAX {
            if self.child.try_wait().map_err(io("waiting for the node"))?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(BenchError::Timeout { what: "the node's stop".to_owned(), limit: STOP_MAX })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing else to do here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the command-line tool on a data folder, whether a node runs there or not.
pub fn cli(binary: &Path, data: &Path, args: &[&str]) -> Result<String, BenchError> {
    let output = Command::new(binary)
        .args(args)
        .arg("--data")
        .arg(data)
        .stdin(Stdio::null())
        .output()
        .map_err(io(format!("starting {}", binary.display())))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(BenchError::Program(format!(
            "edgeway {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        ))),
    }
}

fn log_path(data: &Path) -> PathBuf {
    data.with_extension("log")
}

fn log_file(data: &Path) -> Result<File, BenchError> {
    let path = log_path(data);
    File::options().create(true).append(true).open(&path).map_err(io(format!("opening {}", path.display())))
}
