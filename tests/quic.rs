//! MQTT over QUIC with a client of other make (aioquic), and the identity that a node keeps.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::harness::Node;
use crate::harness::binary::root;
use crate::harness::skip::skipped;

const LISTEN: &str = "[listen]\nquic = '127.0.0.1:0'\n";

/// What the node wrote into a file of its data folder.
fn written(node: &Node, name: &str) -> String {
    fs::read_to_string(node.data().join(name)).unwrap()
}

/// A Python with aioquic, made once below `target`; or why there is none.
fn python() -> Result<PathBuf, String> {
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

#[test]
fn a_client_of_other_make() {
    let python = match python() {
        Ok(python) => python,
        Err(reason) => return skipped("a_client_of_other_make", &reason),
    };
    let node = Node::start_with(LISTEN);
    let address = written(&node, "quic.addr");
    let port = address.rsplit(':').next().unwrap();
    let mut command = Command::new(python);
    command.arg(root().join("tests/quic/device.py")).arg(port).arg(node.data().join("quic.crt"));
    let output = command.arg(written(&node, "quic.fingerprint")).stdin(Stdio::null()).output().unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.ends_with("all is well\n"), "{said}\n{wrong}");
    let of = |key: &str| -> Vec<String> {
        node.events("mqtt").iter().filter(|event| event.key() == key).map(|event| event.text()).collect()
    };
    let numbers: Vec<String> = (1..=300).map(|number| number.to_string()).collect();
    assert_eq!(of("truck"), numbers, "each once, in order, over three changes of address");
    for level in [4, 5] {
        assert_eq!(of(&format!("py{level}/t")), ["hello ".repeat(20_000)]);
    }
}

#[test]
fn a_node_keeps_its_identity() {
    let mut node = Node::start_with(LISTEN);
    let fingerprint = written(&node, "quic.fingerprint");
    assert!(fingerprint.len() == 64 && fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit()), "{fingerprint}");
    assert!(node.log().contains(&fingerprint), "the fingerprint is logged");
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
