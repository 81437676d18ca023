//! What the README says is so.

use std::process::{Command, Stdio};

use crate::harness::binary::{edgeway, root};
use crate::harness::cli;

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).unwrap()
}

/// The text of the fenced blocks of a language.
fn blocks(language: &str) -> Vec<String> {
    let readme = readme();
    let fence = format!("```{language}\n");
    let found = readme.split(&fence).skip(1);
    found.map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_configuration_is_taken() {
    let text = blocks("toml").into_iter().find(|block| block.contains("[[routing.rules]]")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("edgeway.toml");
    std::fs::write(&file, text).unwrap();
    cli::edgeway(&["run", "--check", "--config", &file.to_string_lossy()]).ok();
}

#[test]
fn every_place_on_the_map_exists() {
    let map = blocks("text").into_iter().find(|block| block.contains("sled-data/")).unwrap();
    let mut parent = "";
    let mut count = 0;
    for line in map.lines() {
        let place = line.split_whitespace().next().unwrap_or_default();
        let indented = line.starts_with("  ");
        if place.is_empty() || (indented && !place.starts_with("src/")) {
            continue;
        }
        let path = if indented { format!("{parent}{place}") } else { place.to_owned() };
        assert!(root().join(&path).exists(), "{path} is on the map and not in the tree");
        if !indented {
            parent = place;
        }
        count += 1;
    }
    assert!(count > 15, "only {count} places were read");
}

#[test]
fn every_command_exists() {
    let readme = readme();
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `edgeway "));
    let mut count = 0;
    for row in rows {
        let typed = row.split('`').next().unwrap();
        let words = typed.split(' ').take_while(|word| word.starts_with(|c: char| c.is_ascii_lowercase()));
        let words: Vec<&str> = words.collect();
        let (last, before) = words.split_last().unwrap();
        for word in last.trim_end_matches(',').split("\\|") {
            let mut command = Command::new(edgeway());
            let status = command.args(before).arg(word).arg("--help").stdin(Stdio::null()).output().unwrap().status;
            assert!(status.success(), "edgeway {typed}");
        }
        count += 1;
    }
    assert!(count >= 10, "only {count} commands were read");
}

#[test]
fn the_exit_codes_are_those_of_the_help() {
    let help = cli::edgeway(&["--help"]).ok().out;
    let sentence = readme().replace('\n', " ");
    let sentence = sentence.split("Exit codes: ").nth(1).unwrap().split('.').next().unwrap().to_owned();
    let codes = sentence.split(", ").map(|code| code.split(' ').next().unwrap().to_owned());
    for code in codes {
        assert!(help.contains(&format!("\n  {code}  ")), "{code} in:\n{help}");
    }
}
