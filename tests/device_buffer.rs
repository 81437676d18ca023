//! A device with a buffer on disk is killed again and again, without a node and with one: what it took arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::full_disk::Disk;
use crate::harness::skip::skipped;
use crate::harness::{Node, binary, wait};

/// Runs without a node, then with one, each killed; then one that may end.
const OFFLINE_RUNS: usize = 3;
const ONLINE_RUNS: usize = 4;
/// More than are taken before the kill.
const READINGS: u64 = 1_000_000;

struct Device {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Device {
    fn start(node: SocketAddr, folder: &Path, run: usize, count: u64) -> Device {
        let mut command = Command::new(binary::buffered_device());
        command.arg(format!("mqtt://{node}")).arg(folder).arg(run.to_string()).arg(count.to_string());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Device { child, lines }
    }

    /// The next reading that is in the buffer.
    fn taken(&mut self) -> Option<u64> {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.strip_suffix('\n')?.parse().ok()
    }

    /// Kills it once so many readings are in the buffer. Gives how many it said were.
    fn kill_after(mut self, count: u64) -> u64 {
        while self.taken().unwrap() + 1 < count {}
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // What was said before the kill is still in the pipe; the last line may be torn.
        let mut last = count - 1;
        while let Some(n) = self.taken() {
            last = n;
        }
        last + 1
    }
}

impl Device {
    /// Waits until it ends by itself; whether all went well.
    fn end(&mut self) -> bool {
        wait::until("the device's end", || self.child.try_wait().unwrap()).success()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_buffer_on_disk_survives_the_kill_of_its_device() {
    let folder = tempfile::tempdir().unwrap();
    let buffer = folder.path().join("buffer");
    let mut node = Node::start();
    let gone = node.mqtt;
    node.kill();
    let mut taken = Vec::new();
    for run in 0..OFFLINE_RUNS {
        taken.push(Device::start(gone, &buffer, run, READINGS).kill_after(700 + 311 * run as u64));
    }
    node.run();
    for run in OFFLINE_RUNS..OFFLINE_RUNS + ONLINE_RUNS {
        taken.push(Device::start(node.mqtt, &buffer, run, READINGS).kill_after(150 + 97 * run as u64));
    }
    let mut last = Device::start(node.mqtt, &buffer, taken.len(), 10);
    taken.push(10);
    assert!(last.end());
    check(&node, &taken);
}

#[test]
fn a_disk_that_is_full_is_told_and_what_was_taken_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("disk");
    std::fs::create_dir(&place).unwrap();
    let Some(disk) = Disk::mount(&place, "256k") else {
        skipped("a_disk_that_is_full_is_told_and_what_was_taken_arrives", "a small file system cannot be mounted here");
        return;
    };
    let buffer = place.join("buffer");
    let mut node = Node::start();
    let gone = node.mqtt;
    node.kill();
    let mut device = Device::start(gone, &buffer, 0, READINGS);
    let mut taken = 0;
    while let Some(n) = device.taken() {
        taken = n + 1;
    }
    assert!(!device.end(), "its publish was refused");
    assert!(taken > 1_000, "{taken}");
    node.run();
    for (run, count) in [(1, 0), (1, 10)] {
        let mut next = Device::start(node.mqtt, &buffer, run, count);
        assert!(next.end(), "it starts on a disk that is full, and makes room");
    }
    check(&node, &[taken, 10]);
    drop(disk);
}

/// Of each run, all that were taken arrived, in order.
fn check(node: &Node, taken: &[u64]) {
    let mut found: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for event in node.events("mqtt") {
        let text = event.text();
        let (run, n) = text.split_once(' ').unwrap();
        found.entry(run.parse().unwrap()).or_default().push(n.parse().unwrap());
    }
    for (run, taken) in taken.iter().enumerate() {
        // A reading may be in the buffer and the device killed before it says so.
        let mut seen = BTreeSet::new();
        let firsts: Vec<u64> = found[&run].iter().copied().filter(|n| seen.insert(*n)).collect();
        assert!(firsts.len() as u64 >= *taken, "run {run}: {taken} were taken, {} arrived", firsts.len());
        assert!(firsts.iter().copied().eq(0..firsts.len() as u64), "run {run}: in order, without a gap");
    }
}
