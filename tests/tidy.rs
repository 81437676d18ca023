//! The house rules, as a test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::binary::root;

const LINES_MAX: usize = 500;
const FORBIDDEN_NAMES: [&str; 7] = ["common", "util", "utils", "helper", "manager", "misc", "types"];
/// Not `core` as a folder of the target, but as a module.
const FORBIDDEN_FILES: [&str; 2] = ["core", "helpers"];

/// A file of the tree: its path from the root, and its text.
struct Source {
    path: String,
    text: String,
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && name != ".git" {
                walk(&path, found);
            }
        } else {
            found.push(path);
        }
    }
}

fn sources(endings: &[&str]) -> Vec<Source> {
    let mut files = Vec::new();
    walk(root(), &mut files);
    let wanted = files.into_iter().filter(|file| {
        let name = file.to_string_lossy();
        endings.iter().any(|ending| name.ends_with(ending))
    });
    let source = |file: PathBuf| Source {
        path: file.strip_prefix(root()).unwrap().to_string_lossy().into_owned(),
        text: String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned(),
    };
    wanted.map(source).collect()
}

fn rust() -> Vec<Source> {
    sources(&[".rs"])
}

/// This file names what it forbids.
fn is_this_file(source: &Source) -> bool {
    source.path == "tests/tidy.rs"
}

/// A line's code, without a comment that follows it.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

fn assert_none(rule: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[test]
fn every_file_says_what_it_is_and_is_short() {
    let files = rust();
    assert!(files.len() > 50, "only {} files were found", files.len());
    let silent = files.iter().filter(|s| !s.text.starts_with("//!")).map(|s| s.path.clone()).collect();
    assert_none("files that do not begin with `//!`", silent);
    let long = files.iter().filter(|s| s.text.lines().count() > LINES_MAX).map(|s| s.path.clone()).collect();
    assert_none("files of over 500 lines", long);
}

#[test]
fn no_module_has_a_name_that_says_nothing() {
    let forbidden: BTreeSet<&str> = FORBIDDEN_NAMES.into_iter().chain(FORBIDDEN_FILES).collect();
    let named = |s: &Source| {
        let path = s.path.trim_end_matches(".rs");
        path.split('/').any(|part| forbidden.contains(part))
    };
    assert_none("modules", rust().iter().filter(|s| named(s)).map(|s| s.path.clone()).collect());
}

/// Lines of code that hold one of `words`, in files outside `allowed`.
fn lines_with(words: &[&str], allowed: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for source in rust() {
        if is_this_file(&source) || allowed.iter().any(|prefix| source.path.starts_with(prefix)) {
            continue;
        }
        for (number, line) in (1..).zip(source.text.lines()) {
            if words.iter().any(|word| code(line).contains(word)) {
                found.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    found
}

#[test]
fn foreign_crates_are_named_in_one_room() {
    assert_none("sled outside sled-data", lines_with(&["sled::"], &["sled-data/"]));
    assert_none("wasmtime outside plugin_host", lines_with(&["wasmtime::"], &["router/src/plugin_host"]));
    assert_none(
        "openraft outside the catalog's consensus",
        lines_with(&["openraft::"], &["router/src/catalog/consensus"]),
    );
    assert_none("axum outside admin", lines_with(&["axum::"], &["router/src/admin", "router/src/node.rs"]));
    assert_none(
        "quinn outside transport, quic, the device's client and the bench",
        lines_with(
            &["quinn::", "quinn_proto::"],
            &[
                "router/src/transport",
                "router/src/quic",
                "devices/src/client/quic",
                "devices/src/congestion",
                "tests/",
                "xtask/src/bench/quic",
                "xtask/src/bench/site/many/dial.rs",
            ],
        ),
    );
    let certificates = ["router/src/transport", "devices/src/client", "xtask/src/bench/site/many/join.rs"];
    assert_none(
        "rcgen and webpki outside transport, the device's client and the bench",
        lines_with(&["rcgen::", "webpki::"], &certificates),
    );
    let rooms = ["devices/src/client", "devices/src/fleet", "tests/"];
    assert_none("rumqttc outside the client", lines_with(&["rumqttc::"], &rooms));
}

#[test]
fn unsafe_is_in_one_file() {
    let allowed = ["router/src/plugin_host/compiled.rs", "plugin-sdk/src/bindings.rs"];
    assert_none("unsafe", lines_with(&["unsafe {", "unsafe fn", "unsafe impl", "allow(unsafe_code"], &allowed));
}

#[test]
fn nothing_is_left_undone_or_ignored() {
    let words = ["todo!(", "unimplemented!(", "#[ignore", "dbg!("];
    assert_none("left undone", lines_with(&words, &[]));
    let mut notes = Vec::new();
    for source in rust().into_iter().filter(|s| !is_this_file(s)) {
        let marks = ["TODO", "FIXME", "XXX"];
        let lines = (1..).zip(source.text.lines());
        let found = lines.filter(|(_, line)| marks.iter().any(|mark| line.contains(&format!("// {mark}"))));
        notes.extend(found.map(|(number, line)| format!("{}:{number}: {line}", source.path)));
    }
    assert_none("notes", notes);
}

#[test]
fn no_path_of_a_machine_is_written_down() {
    let mut found = Vec::new();
    for source in sources(&[".rs", ".toml", ".md", ".sh", ".service", ".wit"]) {
        let words = ["/home/", "/root/", "/work/", "/Users/"];
        if !is_this_file(&source) && words.iter().any(|word| source.text.contains(word)) {
            found.push(source.path);
        }
    }
    assert_none("paths of a machine", found);
}

#[test]
fn every_crate_takes_its_lints_from_the_workspace() {
    let manifests = sources(&["Cargo.toml"]);
    assert!(manifests.len() >= 8);
    let without = manifests.iter().filter(|s| s.path != "Cargo.toml");
    let without = without.filter(|s| !s.text.contains("[lints]\nworkspace = true"));
    assert_none("crates with lints of their own", without.map(|s| s.path.clone()).collect());
}

/// The rooms of the router in their order: each may use those of earlier lines.
const ORDER: [&[&str]; 12] = [
    &["clock", "security", "config", "transport"],
    &["event_log"],
    &["catalog"],
    &["ingest"],
    &["subscriptions"],
    &["sessions"],
    &["directory"],
    &["mqtt", "plugin_host", "commands", "twins", "replication", "links", "bridges"],
    &["quic"], // carries what `mqtt` speaks
    &["admin"],
    &["node"],
    &["cli"],
];

fn rank(room: &str) -> Option<usize> {
    ORDER.iter().position(|rooms| rooms.contains(&room))
}

#[test]
fn rooms_use_only_rooms_beneath_them() {
    let mut found = Vec::new();
    for source in rust() {
        let Some(inside) = source.path.strip_prefix("router/src/") else { continue };
        let room = inside.split(['/', '.']).next().unwrap_or_default();
        let Some(own) = rank(room) else {
            if !["lib", "main"].contains(&room) {
                found.push(format!("{}: a room that has no place in the order", source.path));
            }
            continue;
        };
        for (number, line) in (1..).zip(source.text.lines()) {
            for used in rooms_named(code(line)) {
                let wrong = used != room && rank(used).is_some_and(|rank| rank >= own);
                if wrong && !is_exempt(room, used) {
                    found.push(format!("{}:{number}: {room} uses {used}", source.path));
                }
            }
        }
    }
    assert_none("rooms that look up or sideways", found);
}

/// Rooms that a line names by `crate::ROOM`.
fn rooms_named(line: &str) -> impl Iterator<Item = &str> {
    let parts = line.split("crate::").skip(1);
    parts.map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default())
}

/// `config` is a struct of the rooms' own settings.
fn is_exempt(room: &str, _used: &str) -> bool {
    room == "config"
}
