//! `mosquitto_pub` and `mosquitto_sub` as any distribution ships them.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::harness::Node;
use crate::harness::skip::{installed, skipped};

const VERSIONS: [&str; 2] = ["mqttv311", "mqttv5"];

/// Whether the programs are here; where not, the check is told to be skipped.
pub fn present(check: &str) -> bool {
    let present = installed("mosquitto_pub") && installed("mosquitto_sub");
    if !present {
        skipped(check, "mosquitto_pub and mosquitto_sub are not installed");
    }
    present
}

/// `mosquitto_pub`, to its end.
pub fn publish(node: &Node, version: &str, args: &[&str]) {
    let mut command = Command::new("mosquitto_pub");
    command.args(["-h", "127.0.0.1", "-p", &node.mqtt.port().to_string(), "-V", version]);
    let output = command.args(args).output().unwrap();
    assert!(output.status.success(), "mosquitto_pub {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A running `mosquitto_sub` whose subscription the node has acknowledged.
pub struct Subscriber {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Messages that came before the acknowledgement, as those of a kept session do.
    early: Vec<String>,
}

impl Subscriber {
    /// Starts it; it ends by itself after `count` messages.
    pub fn start(node: &Node, version: &str, count: usize, args: &[&str]) -> Subscriber {
        let mut command = Command::new("stdbuf"); // without it, its debug lines come at its end
        command.args(["-oL", "mosquitto_sub", "-d", "-h", "127.0.0.1", "-W", "30", "-F", "got %t %q %r %p"]);
        command.args(["-p", &node.mqtt.port().to_string(), "-V", version, "-C", &count.to_string()]);
        let mut child = command.args(args).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut early = Vec::new();
        for line in lines.by_ref().map(Result::unwrap) {
            early.extend(line.strip_prefix("got ").map(str::to_owned));
            if line.contains("received SUBACK") {
                break;
            }
        }
        Subscriber { child, lines, early }
    }

    /// The messages, as "MQTT topic, QoS, retain, payload", at its end.
    pub fn messages(mut self) -> Vec<String> {
        let lines = self.lines.by_ref().map(Result::unwrap);
        let later = lines.filter_map(|line| line.strip_prefix("got ").map(str::to_owned));
        let messages: Vec<String> = self.early.drain(..).chain(later).collect();
        assert!(self.child.wait().unwrap().success(), "mosquitto_sub ended early with {messages:?}");
        messages
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn every_quality_of_service_in_both_versions() {
    if !present("every_quality_of_service_in_both_versions") {
        return;
    }
    let node = Node::start();
    for version in VERSIONS {
        for from in ["0", "1", "2"] {
            for to in ["0", "1"] {
                let topic = format!("{version}/{from}/{to}");
                let subscriber = Subscriber::start(&node, version, 1, &["-q", to, "-t", &topic]);
                publish(&node, version, &["-q", from, "-t", &topic, "-m", "hello"]);
                let quality = from.min(to);
                assert_eq!(subscriber.messages(), [format!("{topic} {quality} 0 hello")]);
            }
        }
    }
}

#[test]
fn wildcards_in_both_versions() {
    if !present("wildcards_in_both_versions") {
        return;
    }
    let node = Node::start();
    for version in VERSIONS {
        let (one, rest) = (format!("{version}/+/temp"), format!("{version}/b/#"));
        let subscriber = Subscriber::start(&node, version, 3, &["-q", "1", "-t", &one, "-t", &rest]);
        for level in ["a/temp", "a/hum", "b", "b/x/y", "c/x/temp"] {
            publish(&node, version, &["-q", "1", "-t", &format!("{version}/{level}"), "-m", level]);
        }
        let expected = ["a/temp", "b", "b/x/y"].map(|level| format!("{version}/{level} 1 0 {level}"));
        assert_eq!(subscriber.messages(), expected);
    }
}

#[test]
fn retained_messages_in_both_versions() {
    if !present("retained_messages_in_both_versions") {
        return;
    }
    let mut node = Node::start();
    for version in VERSIONS {
        let topic = format!("{version}/state");
        publish(&node, version, &["-q", "1", "-r", "-t", &topic, "-m", "old"]);
        publish(&node, version, &["-q", "1", "-r", "-t", &topic, "-m", "new"]);
        let subscriber = Subscriber::start(&node, version, 1, &["-q", "1", "-t", &topic]);
        assert_eq!(subscriber.messages(), [format!("{topic} 1 1 new")]);
    }
    node.kill();
    node.run();
    for version in VERSIONS {
        let topic = format!("{version}/state");
        let subscriber = Subscriber::start(&node, version, 1, &["-q", "1", "-t", &topic]);
        assert_eq!(subscriber.messages(), [format!("{topic} 1 1 new")], "after a crash");
        publish(&node, version, &["-q", "1", "-r", "-t", &topic, "-n"]);
        let subscriber = Subscriber::start(&node, version, 1, &["-q", "1", "-t", &topic]);
        publish(&node, version, &["-q", "1", "-t", &topic, "-m", "live"]);
        assert_eq!(subscriber.messages(), [format!("{topic} 1 0 live")], "after it was cleared");
    }
}

#[test]
fn wills_in_both_versions() {
    if !present("wills_in_both_versions") {
        return;
    }
    let node = Node::start();
    for version in VERSIONS {
        let topic = format!("{version}/will");
        let subscriber = Subscriber::start(&node, version, 1, &["-q", "1", "-t", &topic]);
        let will = ["--will-topic", &topic, "--will-payload", "gone", "--will-qos", "1", "-t", "other"];
        let mut dying = Subscriber::start(&node, version, 1, &will);
        // `stdbuf` becomes mosquitto_sub, so that this kills the client.
        dying.child.kill().unwrap();
        assert_eq!(subscriber.messages(), [format!("{topic} 1 0 gone")]);
    }
}

#[test]
fn properties_of_version_5_arrive() {
    if !present("properties_of_version_5_arrive") {
        return;
    }
    let node = Node::start();
    let format = "got %t|%C|%R|%D|%F|%P|%p";
    let subscriber = Subscriber::start(&node, "mqttv5", 1, &["-q", "1", "-t", "props", "-F", format]);
    let properties = ["content-type text/csv", "response-topic back/here", "correlation-data c-1"];
    let mut args = vec!["-q", "1", "-t", "props", "-m", "1,2", "-D", "publish", "payload-format-indicator", "1"];
    for property in &properties {
        let (name, value) = property.split_once(' ').unwrap();
        args.extend(["-D", "publish", name, value]);
    }
    args.extend(["-D", "publish", "user-property", "unit", "bar"]);
    publish(&node, "mqttv5", &args);
    assert_eq!(subscriber.messages(), ["props|text/csv|back/here|c-1|1|unit:bar|1,2"]);
}

#[test]
fn a_kept_session_gets_what_it_missed() {
    if !present("a_kept_session_gets_what_it_missed") {
        return;
    }
    let mut node = Node::start();
    for version in VERSIONS {
        let topic = format!("{version}/kept");
        let args = ["-i", version, "-c", "-q", "1", "-t", &topic]; // with -c, version 5 asks for no expiry by itself
        drop(Subscriber::start(&node, version, 1, &args));
        for number in ["1", "2", "3"] {
            publish(&node, version, &["-q", "1", "-t", &topic, "-m", number]);
        }
        node.kill();
        node.run();
        let subscriber = Subscriber::start(&node, version, 3, &args);
        let expected = ["1", "2", "3"].map(|number| format!("{topic} 1 0 {number}"));
        assert_eq!(subscriber.messages(), expected);
    }
}
