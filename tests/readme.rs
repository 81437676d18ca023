//! What the README says is so.

use std::collections::BTreeSet;
use std::path::Path;
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

/// The calls of the API, as the sources name their paths.
fn calls() -> Vec<String> {
    let folder = root().join("router/src/admin");
    let mut folders = vec![folder.clone()];
    let mut calls = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") && !path.ends_with("tests.rs") {
                let text = std::fs::read_to_string(path).unwrap();
                let named = text.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap_or_default());
                calls.extend(named.map(str::to_owned));
            }
        }
    }
    calls
}

#[test]
fn every_call_of_the_api_is_listed() {
    let readme = readme();
    let calls = calls();
    assert!(calls.len() > 30, "only {} calls were found", calls.len());
    // `.../resume` stands for the path before it with another end.
    let is_listed = |call: &String| match call.rsplit_once('/') {
        Some((_, last)) => readme.contains(call.as_str()) || readme.contains(&format!("`.../{last}`")),
        None => false,
    };
    let missing: Vec<_> = calls.iter().filter(|call| !is_listed(call)).collect();
    assert!(missing.is_empty(), "{missing:?} are not in README.md");
}

#[test]
fn every_page_is_in_the_list_of_pages() {
    let docs = root().join("docs");
    let list = std::fs::read_to_string(docs.join("README.md")).unwrap();
    let named: Vec<&str> = list.split("](").skip(1).map(|rest| rest.split(')').next().unwrap_or_default()).collect();
    assert!(named.len() > 30, "only {} pages are named", named.len());
    for page in &named {
        assert!(docs.join(page).exists(), "{page} is in the list and not there");
    }
    for entry in std::fs::read_dir(&docs).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_page = name != "README.md" && name.contains('.');
        assert!(!is_page || named.contains(&name.as_str()), "{name} is not in docs/README.md");
    }
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

/// The words between quotes that follow `before` in the sources below a folder, across white space.
fn words_after(folder: &str, before: &str) -> BTreeSet<String> {
    let is_word = |word: &&str| word.contains('-') && word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let mut found = BTreeSet::new();
    for text in texts(&root().join(folder)) {
        let quoted =
            text.split(before).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
        found.extend(quoted.filter(is_word).map(str::to_owned));
    }
    found
}

fn texts(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(texts(&path)),
            false => found.push(std::fs::read_to_string(&path).unwrap_or_default()),
        }
    }
    found
}

#[test]
fn every_trouble_and_every_refusal_of_the_site_has_its_line_for_who_runs_it() {
    let page = std::fs::read_to_string(root().join("docs/troubles.md")).unwrap();
    let troubles = words_after("router/src", "trouble(");
    let refusals = words_after("router/src/catalog", "=> ");
    let coded = words_after("router/src/node", ".coded(");
    assert!(troubles.len() > 8 && refusals.len() > 30 && coded.len() > 3, "{troubles:?} {refusals:?} {coded:?}");
    let others =
        ["store-full", "clock-apart", "retention-waits-no-more", "bound-near", "copied", "copied-here", "removed"];
    let all = troubles.into_iter().chain(refusals).chain(coded).chain(others.map(str::to_owned));
    let missing: Vec<String> = all.filter(|word| !page.contains(&format!("`{word}`"))).collect();
    assert!(missing.is_empty(), "not in docs/troubles.md: {missing:?}");
}
