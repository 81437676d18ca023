//! Configuration: mistakes are named with their line, and nothing starts.

use std::process::{Command, Stdio};

use crate::harness::Node;
use crate::harness::binary::{edgeway, root};
use crate::harness::cli::Ran;

pub fn run_with(text: &str) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("edgeway.toml");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(edgeway());
    command.args(["run", "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    command.arg("--data").arg(folder.path().join("data")).arg("--config").arg(file);
    command.stdin(Stdio::null()).output().unwrap().into()
}

#[test]
fn a_mistake_is_named_with_its_line() {
    // (text, line, a word of the message)
    let cases = [
        ("[node]\nnam = 'x'\n", 2, "nam"),
        ("[nodes]\n", 1, "nodes"),
        ("[log.topics]\n\npartitions = 'four'\n", 3, "four"),
        ("[log.topics]\npartitions = 0\n", 2, "partitions"),
        ("[routing]\nstrict = maybe\n", 2, "expected"),
        ("[mqtt]\npacket_bytes_max = -1\n", 2, "-1"),
        ("[listen]\nhttp = 'here'\n", 2, "here"),
        ("[node\n", 1, "unclosed"),
    ];
    for (text, line, word) in cases {
        let ran = run_with(text);
        assert_eq!(ran.code, 2, "{text:?}: {ran:?}");
        let place = format!("edgeway.toml:{line}");
        assert!(ran.err.contains(&place) || ran.err.contains(&format!("line {line}")), "{text:?}: {}", ran.err);
        assert!(ran.err.contains(word), "{text:?}: {}", ran.err);
    }
}

#[test]
fn a_rule_that_cannot_be_is_named() {
    for (rule, word) in [
        ("pattern = 'a/#/b'\ntopic = 't'", "a/#/b"),
        ("pattern = 'a/{x}'\ntopic = '{y}'", "y"),
        ("pattern = 'a'\ntopic = '_commands'", "_"),
    ] {
        let ran = run_with(&format!("[[routing.rules]]\n{rule}\n"));
        assert_eq!(ran.code, 2, "{rule}: {ran:?}");
        assert!(ran.err.contains(word), "{rule}: {}", ran.err);
    }
}

#[test]
fn the_example_file_starts_a_node() {
    let text = std::fs::read_to_string(root().join("docs/edgeway.example.toml")).unwrap();
    let node = Node::start_with(&text);
    assert!(node.is_healthy());
}

#[test]
fn a_second_node_on_the_same_folder_is_refused() {
    let node = Node::start();
    let mut command = Command::new(edgeway());
    command.args(["run", "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    let ran: Ran = command.arg("--data").arg(node.data()).stdin(Stdio::null()).output().unwrap().into();
    assert_ne!(ran.code, 0);
    assert!(!ran.err.trim().is_empty(), "says why");
    assert!(node.is_healthy());
}

#[test]
fn an_address_in_use_is_named() {
    let node = Node::start();
    let folder = tempfile::tempdir().unwrap();
    let taken = node.mqtt.to_string();
    let mut command = Command::new(edgeway());
    command.args(["run", "--mqtt", &taken, "--http", "127.0.0.1:0"]);
    let ran: Ran = command.arg("--data").arg(folder.path()).stdin(Stdio::null()).output().unwrap().into();
    assert_ne!(ran.code, 0);
    assert!(ran.err.contains(&taken), "{}", ran.err);
}
