//! The command line as people and scripts use it: tables, JSON, exit codes, pipes.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};

use crate::harness::cli::{self, Ran};
use crate::harness::components::{hostile, hostile_manifest};
use crate::harness::device::Device;
use crate::harness::mqtt::{Client, Message, Version};
use crate::harness::{Node, http};

#[test]
fn every_listing_has_a_table_and_json() {
    let node = Node::start();
    node.cli(&["topic", "create", "readings", "--partitions", "2", "--retention", "7d"]).ok();
    node.cli(&["publish", "readings", "--key", "pump", "--value", "1"]).ok();
    let device = Device::connect(&node, Version::V5, "pump");
    let sent = node.cli(&["command", "send", "pump", "cool", "--unknown", "--json"]).ok().json();
    node.deploy(&hostile(), &hostile_manifest("readings")).ok();
    // (arguments, what both forms must name)
    let cases: [(&[&str], &str); 8] = [
        (&["topic", "list"], "readings"),
        (&["topic", "show", "readings"], "readings"),
        (&["plugin", "list"], "hostile"),
        (&["command", "list"], "cool"),
        (&["command", "show", sent["id"].as_str().unwrap()], "cool"),
        (&["device", "list"], "pump"),
        (&["tail", "readings", "--from", "start"], "pump"),
        (&["get", "readings", "pump", "--json"], "pump"),
    ];
    for (args, named) in cases {
        let table = node.cli(args).ok();
        assert!(table.out.contains(named), "{args:?}: {}", table.out);
        let json = node.cli(&[args, &["--json"][..usize::from(!args.contains(&"--json"))]].concat()).ok();
        assert!(!json.lines().is_empty(), "{args:?}");
        assert!(json.out.contains(named), "{args:?}: {}", json.out);
    }
    assert!(node.cli(&["status"]).ok().out.contains(&node.mqtt.to_string()));
    assert!(node.cli(&["status", "--json"]).ok().json().is_object());
    drop(device);
}

#[test]
fn what_is_published_is_tailed_and_got() {
    let node = Node::start();
    node.cli(&["topic", "create", "t"]).ok();
    node.cli(&["publish", "t", "--key", "k", "--value", "one", "--header", "unit=bar"]).ok();
    node.cli_with_input(&["publish", "t", "--key", "k", "--lines"], b"two\nthree\n").ok();
    node.cli_with_input(&["publish", "t", "--key", "bytes"], &[0xff, 0, 1]).ok();
    let lines = node.cli(&["tail", "t", "--json"]).ok().lines();
    let values: Vec<_> = lines.iter().filter(|e| e["key"] == "k").map(|e| e["value"].clone()).collect();
    assert_eq!(values, ["one", "two", "three"]);
    let first = lines.iter().find(|e| e["value"] == "one").unwrap();
    assert_eq!(first["headers"]["unit"], "bar");
    for field in ["topic", "origin", "partition", "offset", "timestamp_ms", "device"] {
        assert!(first.get(field).is_some(), "{field} of {first}");
    }
    assert!(lines.iter().any(|e| e["value_base64"] == "/wAB"), "{lines:?}");
    assert_eq!(node.cli(&["get", "t", "k"]).ok().out.trim_end(), "three");
    node.cli(&["publish", "t", "--key", "k", "--delete"]).ok();
    assert_eq!(node.cli(&["get", "t", "k"]).code, 4, "deleted");
    let later = node.cli(&["tail", "t", "--from", "1", "--partition", &first["partition"].to_string(), "--json"]);
    assert_eq!(later.ok().lines()[0]["value"], "two");
}

#[test]
fn exit_codes_say_what_went_wrong() {
    let node = Node::start();
    let nowhere = tempfile::tempdir().unwrap();
    let empty = nowhere.path().to_string_lossy().into_owned();
    assert_eq!(cli::edgeway(&["no-such-command"]).code, 2);
    assert_eq!(node.cli(&["tail", "mqtt", "--from", "yesterday"]).code, 2);
    assert_eq!(cli::edgeway(&["status", "--data", &empty]).code, 3, "no node runs there");
    assert_eq!(cli::edgeway(&["status", "--node", "127.0.0.1:1", "--data", &node.data().to_string_lossy()]).code, 3);
    for absent in [
        &["tail", "absent"][..],
        &["get", "mqtt", "absent"],
        &["topic", "show", "absent"],
        &["plugin", "remove", "absent"],
    ] {
        let ran = node.cli(absent);
        assert_eq!(ran.code, 4, "{absent:?}: {ran:?}");
        assert!(ran.err.starts_with("error: ") && ran.out.is_empty(), "{ran:?}");
    }
    let told = node.cli(&["tail", "absent", "--json"]);
    assert!(told.err.contains(r#""code":"not_found""#), "{}", told.err);
    node.cli(&["topic", "create", "twice"]).ok();
    assert_eq!(node.cli(&["topic", "create", "twice"]).code, 1);
    let token = nowhere.path().join("token");
    std::fs::write(&token, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n").unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(node.cli(&["status", "--token-file", &token.to_string_lossy()]).code, 7);
}

#[test]
fn a_reader_that_leaves_ends_a_tail_quietly() {
    let node = Node::start();
    let mut client = Client::simple(node.mqtt, Version::V3, "source");
    client.publish_all(&vec![Message::new("pipe", "x".repeat(500)); 2_000]);
    let mut tail = start(&node, &["tail", "mqtt", "--json"]);
    let mut first = String::new();
    BufReader::new(tail.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("pipe"));
    let mut said = String::new();
    tail.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((tail.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

#[test]
fn a_followed_tail_gets_what_comes() {
    let node = Node::start();
    let mut tail = start(&node, &["tail", "mqtt", "--from", "start", "--follow", "--max", "3", "--json"]);
    let mut client = Client::simple(node.mqtt, Version::V3, "source");
    for number in 0..3 {
        client.publish(&Message::new("follow", number.to_string()).qos(1));
    }
    let mut out = String::new();
    tail.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert!(tail.wait().unwrap().success());
    assert_eq!(out.lines().count(), 3, "{out}");
}

#[test]
fn waiting_for_an_outcome_ends_with_it() {
    let node = Node::start();
    let mut device = Device::connect(&node, Version::V5, "door");
    for (status, code) in [("succeeded", 0), ("failed", 10), ("rejected", 11)] {
        let waiting = start(&node, &["command", "send", "door", "open", "--wait", "--json"]);
        let received = device.command();
        device.answer(&received, status, "why");
        let ran: Ran = waiting.wait_with_output().unwrap().into();
        assert_eq!(ran.code, code, "{status}: {ran:?}");
        assert!(ran.out.contains(status), "{}", ran.out);
    }
    let ran = node.cli(&["command", "send", "absent", "open", "--unknown", "--wait", "--deliver-by", "1s"]);
    assert_eq!(ran.code, 14, "{ran:?}");
    assert!(ran.out.contains("expired"), "{ran:?}");
}

#[test]
fn a_wait_outlives_the_node_and_says_at_once_what_it_waits_for() {
    let mut node = Node::start();
    let mut waiting = start(&node, &["command", "send", "door", "open", "--wait", "--unknown"]);
    let mut said = BufReader::new(waiting.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    let id = line.trim().strip_prefix("command ").unwrap().to_owned();
    node.kill();
    node.run();
    let mut device = Device::connect(&node, Version::V5, "door");
    let received = device.command();
    assert_eq!(received.id, id);
    device.answer(&received, "rejected/stuck", "why");
    let mut out = String::new();
    waiting.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!((waiting.wait().unwrap().code(), out.contains("stuck")), (Some(11), true), "{out}");
    // What has ended is told again, by the same exit code.
    let watched = node.cli(&["command", "watch", &id]);
    assert!(watched.code == 11 && watched.out.contains("rejected stuck"), "{watched:?}");
    let again = node.cli(&["command", "cancel", &id]);
    assert!(again.code == 1 && again.err.contains("it has ended already: rejected"), "{again:?}");
}

#[test]
fn a_job_is_told_from_a_command() {
    let node = Node::start();
    node.cli(&["device", "add", "door", "--set", "serial=0042"]).ok();
    let shown = node.cli(&["device", "show", "door"]).ok().out;
    assert!(shown.contains("serial = "), "{shown}");
    let started = node.cli(&["command", "send", "open", "--where", "device = door"]).ok();
    let job = started.out.trim();
    assert!(started.err.contains(&format!("job {job}: 1 device, 50 a second")), "{}", started.err);
    for verb in ["show", "cancel", "watch"] {
        let told = node.cli(&["command", verb, job]);
        let is_told = told.err.contains("is a job") && told.err.contains(&format!("edgeway job show {job}"));
        assert!(told.code == 4 && is_told, "{verb}: {told:?}");
    }
    let removed = node.cli(&["device", "remove", "door"]).ok().out;
    assert!(removed.contains("1 pending command stay"), "{removed}");
    let status = node.cli(&["status"]).ok().out;
    assert!(status.contains("1 pending, 1 jobs under way"), "{status}");
}

#[test]
fn plugins_are_deployed_from_files() {
    let node = Node::start();
    let folder = tempfile::tempdir().unwrap();
    let (wasm, manifest) = (folder.path().join("hostile.wasm"), folder.path().join("manifest.toml"));
    std::fs::write(&wasm, hostile()).unwrap();
    std::fs::write(&manifest, hostile_manifest("in")).unwrap();
    node.cli(&["plugin", "deploy", &wasm.to_string_lossy()]).ok();
    assert_eq!(node.plugins().len(), 1);
    std::fs::write(&wasm, "no component").unwrap();
    let ran = node.cli(&["plugin", "deploy", &wasm.to_string_lossy()]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.starts_with("error: "), "{}", ran.err);
    node.cli(&["plugin", "remove", "hostile"]).ok();
    assert!(node.plugins().is_empty());
}

#[test]
fn a_store_is_verified_with_and_without_its_node() {
    let mut node = Node::start();
    assert!(node.cli(&["store", "verify", "--json"]).ok().out.contains("clean"));
    assert!(node.stop().success());
    node.cli(&["store", "verify", "--offline"]).ok();
}

#[test]
fn the_api_lets_in_only_whom_it_should() {
    let node = Node::start();
    let (host, bearer) = (node.http.to_string(), format!("Bearer {}", node.token));
    let status = |headers: &[(&str, &str)]| http::request(node.http, "GET", "/v1/status", headers, b"").unwrap().status;
    assert_eq!(status(&[("Host", &host), ("Authorization", &bearer)]), 200);
    assert_eq!(status(&[("Host", &host)]), 401, "no token");
    assert_eq!(status(&[("Host", &host), ("Authorization", "Bearer wrong")]), 401);
    assert!(status(&[("Host", "evil.example"), ("Authorization", &bearer)]) >= 400, "another host");
    let origin = ("Origin", "http://evil.example");
    assert!(status(&[("Host", &host), ("Authorization", &bearer), origin]) >= 400, "another origin");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(node.data().join("admin.token")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let metrics = http::get(node.http, "/metrics", None).unwrap();
    assert!(metrics.status == 200 && metrics.body.contains("edgeway_"), "{metrics:?}");
}

#[test]
fn completions_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(cli::edgeway(&["completions", shell]).ok().out.contains("edgeway"));
    }
}

fn start(node: &Node, args: &[&str]) -> Child {
    node.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}
