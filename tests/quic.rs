//! MQTT and `edgeway/1` over QUIC with a client of other make (aioquic), and the identity that a node keeps.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use crate::harness::binary::root;
use crate::harness::skip::skipped;
use crate::harness::{Node, wait};

const LISTEN: &str = "[listen]\nquic = '127.0.0.1:0'\n";

/// What the node wrote into a file of its data folder.
fn written(node: &Node, name: &str) -> String {
    fs::read_to_string(node.data().join(name)).unwrap()
}

/// A Python with aioquic, or why there is none.
fn python() -> Result<PathBuf, String> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PYTHON.get_or_init(make_python).clone()
}

/// Made once below `target`.
fn make_python() -> Result<PathBuf, String> {
    let folder = root().join("target/aioquic");
    let python = folder.join("bin/python");
    let has_aioquic = |python: &PathBuf| run(Command::new(python).args(["-c", "import aioquic"])).is_ok();
    if !has_aioquic(&python) {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--timeout", "20", "aioquic"]))?;
    }
    if has_aioquic(&python) { Ok(python) } else { Err("aioquic cannot be imported".to_owned()) }
}

fn run(command: &mut Command) -> Result<Output, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}", said.lines().last().unwrap_or("failed")))
}

/// Runs one of the devices beside this file against the node; it must end well.
fn run_device(python: PathBuf, script: &str, node: &Node) {
    let address = written(node, "quic.addr");
    let port = address.rsplit(':').next().unwrap();
    let mut command = Command::new(python);
    command.arg(root().join("tests/quic").join(script)).arg(port).arg(node.data().join("quic.crt"));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    let output = command.arg(written(node, "quic.fingerprint")).stdin(Stdio::null()).output().unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.ends_with("all is well\n"), "{said}\n{wrong}");
}

/// The values of a key in the catch-all topic, in order.
fn values(node: &Node, key: &str) -> Vec<String> {
    node.events("mqtt").iter().filter(|event| event.key() == key).map(|event| event.text()).collect()
}

#[test]
fn mqtt_with_a_client_of_other_make() {
    let python = match python() {
        Ok(python) => python,
        Err(reason) => return skipped("mqtt_with_a_client_of_other_make", &reason),
    };
    let node = Node::start_with(LISTEN);
    run_device(python, "mqtt_device.py", &node);
    let numbers: Vec<String> = (1..=300).map(|number| number.to_string()).collect();
    assert_eq!(values(&node, "truck"), numbers, "each once, in order, over three changes of address");
    for level in [4, 5] {
        assert_eq!(values(&node, &format!("py{level}/t")), ["hello ".repeat(20_000)]);
    }
}

#[test]
fn edgeway_1_with_a_client_of_other_make() {
    let python = match python() {
        Ok(python) => python,
        Err(reason) => return skipped("edgeway_1_with_a_client_of_other_make", &reason),
    };
    let node = Node::start_with(LISTEN);
    let command = node.send_command("py-pump", "open", "", None);
    run_device(python, "native_device.py", &node);
    assert_eq!(values(&node, "py/t"), ["1", "2", "3", "4", "5", "6"], "each once, in order, whatever came again");
    assert_eq!(values(&node, "py/refused"), ["right"]);
    let numbers: Vec<String> = (1..=300).map(|number| number.to_string()).collect();
    assert_eq!(values(&node, "py/truck"), numbers, "each once, in order, over changes of address");
    wait::until_true("the answer", || node.command_state(&command) == "succeeded");
}

#[test]
fn a_node_keeps_its_identity() {
    let mut node = Node::start_with(LISTEN);
    let fingerprint = written(&node, "quic.fingerprint");
    assert!(fingerprint.len() == 64 && fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit()), "{fingerprint}");
    assert!(node.log().contains(&fingerprint), "the fingerprint is logged");
    let status = node.cli(&["status", "--json"]).ok().json();
    assert_eq!(status["fingerprint"], fingerprint.as_str());
    assert_eq!(status["quic"], written(&node, "quic.addr").as_str());
    node.kill();
    node.run();
    assert_eq!(written(&node, "quic.fingerprint"), fingerprint, "after a crash");
    assert!(node.stop().success());
    assert!(!node.data().join("quic.addr").exists(), "a node that stopped has no address");
    node.run();
    assert_eq!(written(&node, "quic.fingerprint"), fingerprint, "after a stop");
    assert_eq!(node.log().matches(&fingerprint).count(), 3, "it is logged at each start");
}

#[test]
fn quic_is_off_unless_it_is_asked_for() {
    let node = Node::start();
    for name in ["quic.addr", "quic.key", "quic.crt", "quic.fingerprint"] {
        assert!(!node.data().join(name).exists(), "{name}");
    }
}
