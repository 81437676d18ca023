//! Guards of commands, as an operator has them: deployed, listed, restarted, removed.

use std::path::PathBuf;

use serde_json::Value;

use crate::harness::binary::root;
use crate::harness::components::{hostile_guard, hostile_guard_manifest, shipped};
use crate::harness::{Node, http};

/// A component and its manifest in files of the node's folder.
fn files(node: &Node, name: &str, wasm: &[u8], manifest: &str) -> [String; 2] {
    let folder: PathBuf = node.data().join("of-the-operator");
    std::fs::create_dir_all(&folder).unwrap();
    let paths = [folder.join(format!("{name}.wasm")), folder.join(format!("{name}.toml"))];
    std::fs::write(&paths[0], wasm).unwrap();
    std::fs::write(&paths[1], manifest).unwrap();
    paths.map(|path| path.to_string_lossy().into_owned())
}

fn deployed(node: &Node) -> Vec<Value> {
    node.cli(&["plugin", "list", "--json"]).ok().lines()
}

#[test]
fn a_guard_is_deployed_listed_kept_over_a_crash_and_removed() {
    let mut node = Node::start();
    let [wasm, _] = files(&node, "guard", &hostile_guard(), hostile_guard_manifest());
    let said = node.cli(&["plugin", "deploy", &wasm]).ok().out;
    assert!(said.contains("hostile-guard"), "{said}");
    assert!(node.cli(&["plugin", "deploy", &wasm]).ok().out.contains("again"));

    node.kill();
    node.run();
    let guards = deployed(&node);
    assert_eq!(guards.len(), 1, "{guards:?}");
    let guard = &guards[0];
    assert_eq!((&guard["name"], &guard["kind"]), (&"hostile-guard".into(), &"command-guard".into()));
    assert_eq!(guard["manifest"]["limits"]["call_ms"], 50, "{guard}");
    for figure in ["asked", "allowed", "denied", "rewritten", "failed", "overridden"] {
        assert_eq!(guard["guard"][figure], 0, "{figure}");
    }
    let table = node.cli(&["plugin", "list"]).ok().out;
    assert!(table.contains("COMMAND GUARD") && table.contains("open*") && !table.contains("READS"), "{table}");
    let metrics = http::get(node.http, "/metrics", None).unwrap().body;
    assert!(metrics.contains("guard_denied_total{guard=\"hostile-guard\"} 0"), "{metrics}");

    node.cli(&["plugin", "remove", "hostile-guard"]).ok();
    assert!(deployed(&node).is_empty());
    assert_eq!(node.cli(&["plugin", "remove", "hostile-guard"]).code, 4);
    let acts: Vec<Value> = node.events("_audit").into_iter().map(|event| event.json()).collect();
    let of = |act: &str| -> Vec<(String, Value)> {
        let found = acts.iter().filter(|told| told["act"] == act);
        found.map(|told| (told["outcome"].as_str().unwrap().to_owned(), told["detail"].clone())).collect()
    };
    let (deployed, removed) = (of("plugin.deploy"), of("plugin.remove"));
    assert!(deployed[0].0 == "done" && deployed[0].1["kind"] == "command-guard", "{deployed:?}");
    assert!(deployed.iter().all(|(_, detail)| detail["sha256"].as_str().is_some_and(|sha| sha.len() == 64)));
    assert!(deployed.iter().any(|(outcome, detail)| outcome == "done" && detail["redeployed"] == true));
    assert_eq!((removed[0].0.as_str(), removed[1].0.as_str()), ("done", "not_found"));
    assert!(acts.iter().any(|told| told["act"] == "plugin.remove" && told["who"] == "cli"), "{acts:?}");
}

#[test]
fn what_cannot_guard_is_refused() {
    let node = Node::start();
    let good = hostile_guard_manifest();
    let cases = [
        ("no commands", good.replace("commands = ['open*']", "commands = []"), "must name the commands"),
        ("topics", good.replace("kind =", "topics = ['in']\nkind ="), "reads no topics"),
        ("of the other kind", good.replace("kind = 'command-guard'", "topics = ['in']"), "is for plugins of"),
        ("no grant", good.replace("read_state = ['hostile']", ""), "a grant is missing"),
        ("settings that it refuses", format!("{good}\n[config]\nany = 1\n"), "no settings wanted"),
    ];
    for (name, manifest, want) in cases {
        let [wasm, _] = files(&node, "guard", &hostile_guard(), &manifest);
        let refused = node.cli(&["plugin", "deploy", &wasm]);
        assert_eq!(refused.code, 1, "{name}: {refused:?}");
        assert!(refused.err.contains(want), "{name}: {refused:?}");
    }
    assert!(deployed(&node).is_empty());
}

#[test]
fn the_shipped_guard_and_what_it_reads_are_deployed() {
    let check = "the shipped guard is deployed";
    let Some(guard) = shipped("valve-guard", check) else { return };
    let Some(watch) = shipped("pressure-watch", check) else { return };
    let node = Node::start();
    for (name, wasm) in [("pressure-watch", watch), ("valve-guard", guard)] {
        let manifest = std::fs::read_to_string(root().join("plugins").join(name).join("manifest.toml")).unwrap();
        let [wasm, _] = files(&node, name, &wasm, &manifest);
        node.cli(&["plugin", "deploy", &wasm]).ok();
    }
    let plugins = deployed(&node);
    let kinds: Vec<&str> = plugins.iter().filter_map(|plugin| plugin["kind"].as_str()).collect();
    assert_eq!(kinds, ["consumer", "command-guard"], "{plugins:?}");
    let table = node.cli(&["plugin", "list"]).ok().out;
    assert!(table.contains("READS") && table.contains("JUDGES"), "{table}");
}
