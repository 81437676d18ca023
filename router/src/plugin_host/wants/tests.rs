//! What sites are to have of plugins: kept, told, answered, and bounded.

use std::sync::Arc;

use sled_data::{MemoryBackend, Options, Store};

use super::*;
use crate::clock::Clock;
use crate::event_log::{AUDIT_TOPIC, Config};

struct Lab {
    wants: Wants,
    backend: MemoryBackend,
    folder: tempfile::TempDir,
}

fn open(backend: &MemoryBackend, folder: &Path) -> Wants {
    let (store, recovered) =
        Store::on(Arc::new(backend.clone()), Options { seed: Some(1), ..Options::default() }).unwrap();
    let clock = Arc::new(Clock::starting_after(recovered.last_hlc));
    let log = EventLog::open(Arc::new(store), clock, Config::default()).unwrap();
    log.ensure_topic(AUDIT_TOPIC, None).unwrap();
    Wants::open(log, folder).unwrap()
}

fn lab() -> Lab {
    let (backend, folder) = (MemoryBackend::new(), tempfile::tempdir().unwrap());
    Lab { wants: open(&backend, folder.path()), backend, folder }
}

fn component(text: &str) -> Vec<u8> {
    [b"\0asm\x0d\0\x01\0", text.as_bytes()].concat()
}

fn manifest(name: &str) -> String {
    format!("name = '{name}'\ntopics = ['in']\n")
}

#[test]
fn what_is_stored_has_these_bytes() {
    let answers = vec![AnswerV1 { gateway: 5, code: "c".into(), text: "t".into(), at_ms: 2 }];
    let want =
        WantV1 { number: 3, manifest: "m".into(), sha256: [7; 32], bytes: 300, given_ms: 1, who: "w".into(), answers };
    let golden = [&b"\x01\x03\x01m"[..], &[7; 32], b"\xac\x02\x02\x01w\x01\x05\x01c\x01t\x04"].concat();
    assert_eq!(encode(&want), golden);
    assert_eq!(decode(&golden), Some(want));
    assert_eq!((decode(&golden[..golden.len() - 1]), decode(b"\x02"), decode(b"")), (None, None, None));
}

#[test]
fn a_gateway_is_told_until_it_has_answered_and_again_when_something_else_is_wanted() {
    let Lab { wants, backend, folder } = lab();
    let numbers = |wants: &Wants, gateway| -> Vec<(String, u64, bool)> {
        let all = wants.wanted("plant", gateway).unwrap();
        all.into_iter().map(|(name, want)| (name, want.number, want.bytes > 0)).collect()
    };
    let has = |name: &str, number, is_there| (name.to_owned(), number, is_there);
    wants.give("plant", &component("b1"), &manifest("b"), "cli").unwrap();
    wants.give("plant", &component("a1"), &manifest("a"), "cli").unwrap();
    wants.give("other", &component("a1"), &manifest("a"), "cli").unwrap();
    assert_eq!(numbers(&wants, 1), [has("b", 1, true), has("a", 2, true)], "in their order");
    wants.answered("plant", (1, &[1, 2]), ("b", 1), None).unwrap();
    wants.answered("plant", (1, &[1, 2]), ("a", 1), None).unwrap();
    assert_eq!(numbers(&wants, 1), [has("a", 2, true)], "what was wanted before says nothing of what is now");
    assert_eq!(numbers(&wants, 2).len(), 2, "another gateway has not answered");
    wants.answered("plant", (1, &[1, 2]), ("a", 2), Some(("local".into(), "x".repeat(999)))).unwrap();
    assert!(numbers(&wants, 1).is_empty());
    let (_, a) = wants.of_site("plant").unwrap().into_iter().find(|(name, _)| name == "a").unwrap();
    assert_eq!((a.answers[0].code.as_str(), a.answers[0].text.len()), ("local", TEXT_BYTES_MAX));
    // A new version, after a restart.
    let log = Arc::clone(&wants.log);
    drop(wants);
    log.close();
    drop(log);
    let wants = open(&backend, folder.path());
    wants.give("plant", &component("a2"), &manifest("a"), "cli").unwrap();
    assert_eq!(numbers(&wants, 1), [has("a", 4, true)]);
    assert_eq!(wants.part(&digest(&component("a2")), 8, 1).unwrap(), Some(b"a".to_vec()));
    // Gone: kept until all have answered. The second one was about to deploy it when the first one had nothing to remove.
    wants.take_back("plant", "b", true, "cli").unwrap();
    assert_eq!(numbers(&wants, 1), [has("a", 4, true), has("b", 5, false)]);
    assert_eq!(wants.part(&digest(&component("b1")), 0, 9).unwrap(), None, "its component goes");
    wants.answered("plant", (1, &[1, 2]), ("b", 5), None).unwrap();
    assert_eq!(numbers(&wants, 1), [has("a", 4, true)]);
    wants.answered("plant", (2, &[1, 2]), ("b", 1), None).unwrap();
    assert_eq!(numbers(&wants, 2), [has("a", 4, true), has("b", 5, false)]);
    wants.answered("plant", (2, &[1, 2]), ("b", 5), None).unwrap();
    assert_eq!(wants.of_site("plant").unwrap().len(), 1, "it is forgotten");
    let unknown = wants.take_back("plant", "b", true, "cli").unwrap_err();
    assert!(matches!(unknown, WantError::Unknown { .. }), "{unknown}");
    wants.take_back("other", "a", false, "cli").unwrap();
    assert!(wants.of_site("other").unwrap().is_empty(), "nobody can be told");
    wants.log.close();
}

#[test]
fn what_cannot_be_a_plugin_is_refused_and_no_site_takes_all_the_room() {
    let Lab { wants, folder: _folder, .. } = lab();
    let guard = "name = 'g'\nkind = 'command-guard'\ncommands = ['*']\n".to_owned();
    let long = format!("{}[config]\nx = '{}'\n", manifest("a"), "x".repeat(MANIFEST_BYTES_MAX));
    let cases = [
        (b"text".to_vec(), manifest("a"), "not a WebAssembly component"),
        (component(""), "name = ".to_owned(), "cannot be read"),
        (component(""), guard, "command guard"),
        (component(""), long, "bytes of the manifest"),
    ];
    for (wasm, manifest, words) in cases {
        let error = wants.give("plant", &wasm, &manifest, "cli").unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
    assert!(wants.of_site("plant").unwrap().is_empty());
    for n in 0..WANTS_OF_SITE_MAX {
        wants.give("plant", &component("x"), &manifest(&format!("p{n}")), "cli").unwrap();
    }
    let error = wants.give("plant", &component("x"), &manifest("one-more"), "cli").unwrap_err();
    assert!(matches!(error, WantError::TooMany(_)), "{error}");
    wants.give("plant", &component("y"), &manifest("p0"), "cli").unwrap();
    wants.give("other", &component("y"), &manifest("p0"), "cli").unwrap();
    // One that is removed keeps its place while nobody has removed it, and not for a gateway that never answers.
    wants.take_back("plant", "p7", true, "cli").unwrap();
    let (_, gone) = wants.of_site("plant").unwrap().into_iter().find(|(name, _)| name == "p7").unwrap();
    let error = wants.give("plant", &component("x"), &manifest("one-more"), "cli").unwrap_err();
    assert!(matches!(error, WantError::TooMany(_)), "{error}");
    wants.answered("plant", (1, &[1, 2]), ("p7", gone.number), None).unwrap();
    wants.give("plant", &component("x"), &manifest("one-more"), "cli").unwrap();
    assert_eq!(wants.of_site("plant").unwrap().len(), WANTS_OF_SITE_MAX);
    wants.log.close();
}

#[test]
fn no_number_is_given_again_and_a_site_is_read_alone() {
    let Lab { wants, backend, folder } = lab();
    let give = |wants: &Wants, site: &str, name: &str| {
        wants.give(site, &component("x"), &manifest(name), "cli").unwrap();
        wants.of_site(site).unwrap().into_iter().find(|(of, _)| of == name).unwrap().1.number
    };
    assert_eq!(give(&wants, "plant", "a"), 1);
    wants.take_back("plant", "a", true, "cli").unwrap();
    wants.answered("plant", (1, &[1]), ("a", 2), None).unwrap();
    assert!(wants.of_site("plant").unwrap().is_empty(), "it is forgotten");
    assert_eq!(give(&wants, "plant", "a"), 3);
    wants.take_back("plant", "a", false, "cli").unwrap();
    assert_eq!(give(&wants, "plant-2", "a"), 4);
    // The newest is forgotten as the first thing after a restart.
    let log = Arc::clone(&wants.log);
    drop(wants);
    log.close();
    drop(log);
    let wants = open(&backend, folder.path());
    wants.take_back("plant-2", "a", false, "cli").unwrap();
    assert_eq!(give(&wants, "plant", "b"), 5);
    assert_eq!(give(&wants, "plant-2", "c"), 6);
    let names = |site: &str| wants.of_site(site).unwrap().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!((names("plant"), names("plant-2"), names("plan")), (vec!["b".into()], vec!["c".into()], vec![]));
    wants.log.close();
}

#[test]
fn what_a_site_was_to_have_goes_with_its_link() {
    let Lab { wants, folder: _folder, .. } = lab();
    for (site, name) in [("plant", "a"), ("plant", "b"), ("mill", "a")] {
        wants.give(site, &component(name), &manifest(name), "cli").unwrap();
    }
    wants.take_back("plant", "b", true, "cli").unwrap();
    wants.forget(&|site| site == "plant").unwrap();
    assert!(wants.of_site("plant").unwrap().is_empty(), "nor is the next site of that name told to remove anything");
    assert_eq!(wants.of_site("mill").unwrap().len(), 1);
    assert!(wants.part(&digest(&component("b")), 0, 9).unwrap().is_none(), "its component goes");
    assert!(wants.part(&digest(&component("a")), 0, 9).unwrap().is_some());
    wants.give("plant", &component("a"), &manifest("a"), "cli").unwrap();
    assert_eq!(wants.of_site("plant").unwrap()[0].1.number, 5, "no number is given again");
    wants.log.close();
}

#[test]
fn all_gateways_of_a_link_may_answer_at_length() {
    let Lab { wants, folder: _folder, .. } = lab();
    let text = toml::to_string(&Manifest::parse(&manifest("a")).unwrap()).unwrap();
    let room = MANIFEST_BYTES_MAX - text.len() - 32;
    let long = format!("{}[config]\nx = '{}'\n", manifest("a"), "x".repeat(room));
    wants.give("plant", &component("x"), &long, &"w".repeat(999)).unwrap();
    let gateways = (0..ANSWERS_MAX as u64).map(|n| u64::MAX - n);
    for gateway in gateways.clone() {
        assert_eq!(wants.wanted("plant", gateway).unwrap().len(), 1);
        wants.answered("plant", (gateway, &[gateway]), ("a", 1), Some(("c".repeat(999), "t".repeat(999)))).unwrap();
    }
    for gateway in gateways {
        assert!(wants.wanted("plant", gateway).unwrap().is_empty(), "it is not handed over again");
    }
    wants.log.close();
}
