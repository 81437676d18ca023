//! A real node: the binary, a folder of its own, free ports.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::binary;
use super::http;

/// From start to ready; generous, since many nodes start at once in tests.
const READY_MAX: Duration = Duration::from_secs(60);
/// Before a node is started again whose port somebody else has.
const TAKEN_PAUSE: Duration = Duration::from_millis(200);
const STOP_MAX: Duration = Duration::from_secs(30);
/// From the start to the end of a node that refuses to run.
const REFUSED_MAX: Duration = Duration::from_secs(30);

/// A node that ends with the test.
pub struct Node {
    folder: tempfile::TempDir,
    data: PathBuf,
    /// What `run` is told besides.
    args: Vec<String>,
    child: Option<Child>,
    /// The MQTT listener.
    pub mqtt: SocketAddr,
    /// The HTTP listener.
    pub http: SocketAddr,
    /// What the CLI authenticates with.
    pub token: String,
}

impl Node {
    /// A node without a configuration file.
    pub fn start() -> Node {
        Node::start_with("")
    }

    /// A node with a configuration.
    pub fn start_with(config: &str) -> Node {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        Node::start_in(folder, data, config)
    }

    /// A node whose data is at a place of the test's choice.
    pub fn start_in(folder: tempfile::TempDir, data: PathBuf, config: &str) -> Node {
        let mut node = Node::prepare(folder, data, config, &[]);
        node.run();
        node
    }

    /// A node that is not started yet, and what it is told besides when it is.
    pub fn prepare(folder: tempfile::TempDir, data: PathBuf, config: &str, args: &[&str]) -> Node {
        fs::write(folder.path().join("edgeway.toml"), config).unwrap();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Node { folder, data, args, child: None, mqtt: nowhere, http: nowhere, token: String::new() }
    }

    /// Gives it another configuration for its next start.
    pub fn configure(&self, config: &str) {
        fs::write(self.folder.path().join("edgeway.toml"), config).unwrap();
    }

    /// Starts the node on its folder, as after a crash or a stop.
    pub fn run(&mut self) {
        self.spawn();
        self.wait_ready();
    }

    /// Starts the node where it is to be kept out of its site, and waits until it says so in these words.
    pub fn run_kept_out(&mut self, words: &str) {
        self.spawn();
        self.wait_started(|ready| ready.status == 503 && ready.body.contains(words));
    }

    /// Starts the node where it must refuse to run; how it ended, and what it said to it.
    pub fn run_refused(&mut self) -> (ExitStatus, String) {
        let said_before = self.log().len();
        self.spawn();
        let status = self.wait_end(REFUSED_MAX);
        (status, self.log()[said_before..].to_owned())
    }

    fn spawn(&mut self) {
        assert!(self.child.is_none(), "the node runs already");
        for stale in ["mqtt.addr", "admin.addr"] {
            let _ = fs::remove_file(self.data.join(stale));
        }
        let mut log = File::options();
        let log = log.create(true).append(true).open(self.log_path()).unwrap();
        let child = Command::new(binary::edgeway())
            .args(["run", "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .arg("--data")
            .arg(&self.data)
            .arg("--config")
            .arg(self.folder.path().join("edgeway.toml"))
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// Whether it was started, and has not been stopped or killed since.
    pub fn is_started(&self) -> bool {
        self.child.is_some()
    }

    fn wait_ready(&mut self) {
        self.wait_started(|ready| ready.status == 200);
    }

    /// Waits until it answers, and so, when it is asked whether it is ready.
    fn wait_started(&mut self, so: impl Fn(&http::Answer) -> bool) {
        let end = Instant::now() + READY_MAX;
        while !self.answers(&so) {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                let log = self.log();
                // One that comes back to its port finds somebody's connection there now and then, which the system gave it meanwhile.
                let is_taken = log.lines().rev().take(3).any(|line| line.contains("Address already in use"));
                assert!(is_taken && Instant::now() < end, "the node ended with {status}:\n{log}");
                self.child = None;
                std::thread::sleep(TAKEN_PAUSE);
                self.spawn();
            }
            assert!(Instant::now() < end, "the node is not ready:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn answers(&mut self, so: impl Fn(&http::Answer) -> bool) -> bool {
        let (Some(mqtt), Some(http)) = (self.address("mqtt.addr"), self.address("admin.addr")) else {
            return false;
        };
        (self.mqtt, self.http) = (mqtt, http);
        let Ok(token) = fs::read_to_string(self.data.join("admin.token")) else {
            return false;
        };
        token.trim().clone_into(&mut self.token);
        http::get(http, "/readyz", None).is_some_and(|answer| so(&answer))
    }

    fn address(&self, file: &str) -> Option<SocketAddr> {
        let text = fs::read_to_string(self.data.join(file)).ok()?;
        text.trim().parse().ok()
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("node.log")
    }

    /// What the node wrote to its log so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// SIGKILL, at once.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGSTOP: it lives and says nothing.
    pub fn freeze(&self) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), Signal::STOP).unwrap();
    }

    /// SIGCONT: it goes on.
    pub fn thaw(&self) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), Signal::CONT).unwrap();
    }

    /// SIGTERM, and the end of a clean stop, after which nothing holds the store.
    pub fn stop(&mut self) -> ExitStatus {
        let pid = Pid::from_child(self.child.as_ref().unwrap());
        kill_process(pid, Signal::TERM).unwrap();
        let status = self.wait_end(STOP_MAX);
        assert!(!self.log().contains("something still reads the store"), "{}", self.log());
        status
    }

    /// Waits until the process has ended by itself.
    pub fn wait_end(&mut self, within: Duration) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let end = Instant::now() + within;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > end {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the node does not end:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether the node says that it is alive.
    pub fn is_healthy(&self) -> bool {
        http::get(self.http, "/healthz", None).is_some_and(|answer| answer.status == 200)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(40);
            eprintln!("the node's last words:\n{}", lines[from..].join("\n"));
        }
    }
}
