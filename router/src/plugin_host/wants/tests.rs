//! What sites are to have of plugins: kept, told, answered, and bounded.

use std::sync::Arc;

use sled_data::{MemoryBackend, Options, Store};

use super::stored::TEXT_BYTES_MAX;
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

/// A gateway of the plant, which has two, says what has come of a plugin by its number.
fn answered(wants: &Wants, gateway: u64, (name, number): (&str, u64), refused: Option<(String, String)>) {
    wants.answered("plant", (gateway, &[1, 2]), name, |want| want.number == number, refused).unwrap();
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
    answered(&wants, 1, ("b", 1), None);
    answered(&wants, 1, ("a", 1), None);
    assert_eq!(numbers(&wants, 1), [has("a", 2, true)], "what was wanted before says nothing of what is now");
    assert_eq!(numbers(&wants, 2).len(), 2, "another gateway has not answered");
    answered(&wants, 1, ("a", 2), Some(("local".into(), "x".repeat(999))));
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
    // Gone: listed until all have answered. The second one was about to deploy it when the first one had nothing to remove.
    wants.take_back("plant", "b", true, "cli").unwrap();
    assert_eq!(numbers(&wants, 1), [has("a", 4, true), has("b", 5, false)]);
    assert_eq!(wants.part(&digest(&component("b1")), 0, 9).unwrap(), None, "its component goes");
    answered(&wants, 1, ("b", 5), None);
    assert_eq!(numbers(&wants, 1), [has("a", 4, true)]);
    answered(&wants, 2, ("b", 1), None);
    assert_eq!(numbers(&wants, 2), [has("a", 4, true), has("b", 5, false)]);
    assert_eq!(wants.of_site("plant").unwrap().len(), 2, "it is listed");
    answered(&wants, NOBODY, ("b", 5), None);
    assert_eq!(wants.of_site("plant").unwrap().len(), 2, "a gateway cannot say so for the others");
    answered(&wants, 2, ("b", 5), None);
    assert_eq!(wants.of_site("plant").unwrap().len(), 1, "it is gone");
    assert_eq!(numbers(&wants, 3), [has("a", 4, true), has("b", 5, false)], "one that comes later is told");
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
    answered(&wants, 1, ("p7", gone.number), None);
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
    answered(&wants, 1, ("a", 2), None);
    assert_eq!(wants.of_site("plant").unwrap().len(), 1, "the second gateway has not answered");
    answered(&wants, 2, ("a", 2), None);
    assert!(wants.of_site("plant").unwrap().is_empty(), "it is gone");
    assert_eq!(give(&wants, "plant", "a"), 3);
    wants.take_back("plant", "a", false, "cli").unwrap();
    assert_eq!(give(&wants, "plant-2", "a"), 5);
    // The newest goes as the first thing after a restart.
    let log = Arc::clone(&wants.log);
    drop(wants);
    log.close();
    drop(log);
    let wants = open(&backend, folder.path());
    wants.take_back("plant-2", "a", false, "cli").unwrap();
    assert_eq!(give(&wants, "plant", "b"), 7);
    assert_eq!(give(&wants, "plant-2", "c"), 8);
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
    assert!(wants.wanted("plant", 1).unwrap().is_empty());
    let revision = wants.revision();
    wants.forget(&|site| site == "plant").unwrap();
    assert_eq!(wants.revision(), revision, "once");
    assert_eq!(wants.of_site("mill").unwrap().len(), 1);
    assert!(wants.part(&digest(&component("b")), 0, 9).unwrap().is_none(), "its component goes");
    assert!(wants.part(&digest(&component("a")), 0, 9).unwrap().is_some());
    wants.give("plant", &component("a"), &manifest("a"), "cli").unwrap();
    assert_eq!(wants.of_site("plant").unwrap()[0].1.number, 7, "no number is given again");
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
        answered(&wants, gateway, ("a", 1), Some(("c".repeat(999), "t".repeat(999))));
    }
    for gateway in gateways {
        assert!(wants.wanted("plant", gateway).unwrap().is_empty(), "it is not handed over again");
    }
    wants.log.close();
}

/// The others' part of what two nodes say to each other, until neither has anything new.
fn level(nodes: &[&Wants]) {
    for _ in 0..nodes.len() {
        for here in nodes {
            for there in nodes {
                let unknown = here.unknown(there.known().unwrap().heads).unwrap();
                for of in unknown.chunks(ENTRIES_AT_ONCE_MAX) {
                    here.hear(there.entries(of).unwrap()).unwrap();
                }
                for (sha256, bytes) in here.lacking().unwrap() {
                    if let Some((_, wasm)) = there.component_part(&sha256, 0, bytes).unwrap() {
                        assert!(here.keep_component(&wasm, &sha256).unwrap());
                    }
                }
            }
        }
    }
}

/// What a node says of the plant's plugins: name, number, SHA-256, and who has answered.
fn said(wants: &Wants) -> Vec<(String, u64, [u8; 32], Vec<u64>)> {
    let all = wants.of_site("plant").unwrap().into_iter();
    all.map(|(name, want)| (name, want.number, want.sha256, want.answers.iter().map(|answer| answer.gateway).collect()))
        .collect()
}

#[test]
fn nodes_know_the_same_and_what_was_said_last_counts_at_all() {
    let labs = [lab(), lab(), lab()];
    let [a, b, c] = [&labs[0].wants, &labs[1].wants, &labs[2].wants];
    a.give("plant", &component("1"), &manifest("p"), "cli").unwrap();
    // Known, and not handed over before its component is here.
    let revision = b.revision();
    assert_eq!(b.hear(a.entries(&[("plant".into(), "p".into())]).unwrap()).unwrap(), 1);
    assert_ne!(b.revision(), revision);
    assert_eq!((said(b), b.wanted("plant", 1).unwrap().len()), (said(a), 0));
    assert!(!b.keep_component(&component("2"), &digest(&component("1"))).unwrap(), "another component");
    let mut told = b.watch();
    told.borrow_and_update();
    level(&[a, b, c]);
    assert!(told.has_changed().unwrap(), "it can be handed over now");
    assert_eq!(b.part(&digest(&component("1")), 8, 9).unwrap(), Some(b"1".to_vec()));
    assert_eq!(b.wanted("plant", 1).unwrap().len(), 1);
    // An answer at one is known at all.
    answered(b, 1, ("p", 1), None);
    level(&[a, b, c]);
    assert_eq!(said(a)[0].3, [1]);
    // A newer version given elsewhere counts, with answers of its own; the first one's component goes.
    b.give("plant", &component("2"), &manifest("p"), "cli").unwrap();
    level(&[a, b, c]);
    for wants in [a, b, c] {
        assert_eq!(said(wants), [("p".to_owned(), 2, digest(&component("2")), vec![])]);
        assert_eq!(wants.part(&digest(&component("1")), 0, 1).unwrap(), None);
    }
    // What an earlier version is said of counts for nothing.
    answered(c, 1, ("p", 1), None);
    assert!(said(c)[0].3.is_empty());
    // Removed at one while another node, which does not hear of it, is answered by its gateway.
    a.take_back("plant", "p", true, "cli").unwrap();
    answered(a, 1, ("p", 3), None);
    answered(c, 2, ("p", 2), None);
    level(&[a, b]);
    assert_eq!((said(b)[0].1, said(c)[0].1), (3, 2));
    level(&[c, a]);
    assert_eq!(said(c)[0].1, 3, "it does not come back");
    let left: Vec<_> = c.wanted("plant", 2).unwrap().into_iter().map(|(_, want)| (want.number, want.bytes)).collect();
    assert_eq!(left, [(3, 0)], "whose gateway is told");
    answered(c, 2, ("p", 3), None);
    assert!(said(c).is_empty() && !said(b).is_empty());
    level(&[a, b, c]);
    assert!(said(a).is_empty() && said(b).is_empty(), "all have answered");
    // And given again.
    c.give("plant", &component("3"), &manifest("p"), "cli").unwrap();
    level(&[a, b, c]);
    assert_eq!((said(a), said(b)), (said(c), said(c)));
    assert_eq!(said(a)[0].1, 4);
    labs.iter().for_each(|lab| lab.wants.log.close());
}

#[test]
fn a_removal_that_gateways_answer_at_different_nodes_is_over_and_a_removed_link_leaves_notes_for_nodes() {
    let labs = [lab(), lab(), lab()];
    let [a, b, away] = [&labs[0].wants, &labs[1].wants, &labs[2].wants];
    let gateways = |site: &str| if site == "plant" { vec![1, 2] } else { Vec::new() };
    a.give("plant", &component("1"), &manifest("p"), "cli").unwrap();
    a.give("plant", &component("1"), &manifest("q"), "cli").unwrap();
    level(&[a, b, away]);
    a.take_back("plant", "p", true, "cli").unwrap();
    level(&[a, b]);
    answered(a, 1, ("p", 3), None);
    answered(b, 2, ("p", 3), None);
    a.finish(&gateways).unwrap();
    assert_eq!(said(a).len(), 2, "one has answered here");
    level(&[a, b]);
    assert_eq!((said(a).len(), said(b).len()), (2, 2), "nobody has seen the last answer");
    b.finish(&gateways).unwrap();
    level(&[a, b]);
    assert_eq!((said(a).len(), said(b).len()), (1, 1));
    assert!(a.known_of("plant").unwrap().iter().any(|(_, want)| want.is_gone() && !want.is_unlinked()));
    // The link is removed while a node is away, which knows of both.
    a.forget(&|site| site == "plant").unwrap();
    level(&[a, b]);
    b.forget(&|site| site == "plant").unwrap();
    level(&[away, b]);
    level(&[a, b, away]);
    for wants in [a, b, away] {
        assert!(said(wants).is_empty() && wants.wanted("plant", 1).unwrap().is_empty());
        assert!(wants.known_of("plant").unwrap().iter().all(|(_, want)| want.is_unlinked()));
    }
    // What the next site of that name is to have counts at all.
    away.give("plant", &component("2"), &manifest("p"), "cli").unwrap();
    level(&[a, b, away]);
    assert_eq!((said(a).len(), said(b).len()), (1, 1));
    labs.iter().for_each(|lab| lab.wants.log.close());
}

#[test]
fn what_another_node_cannot_mean_is_passed_over_and_no_bound_is_passed() {
    let (here, there) = (lab(), lab());
    there.wants.give("plant", &component("1"), &manifest("p"), "cli").unwrap();
    let (site, name, want) = there.wants.entries(&[("plant".into(), "p".into())]).unwrap().remove(0);
    let read = WantV1::decode(&want).unwrap();
    let wrong = [
        (site.clone(), name.clone(), want[..want.len() - 1].to_vec()),
        (site.clone(), name.clone(), WantV1 { bytes: u64::MAX, ..read.clone() }.encode()),
        (String::new(), name.clone(), want.clone()),
        (site.clone(), "x\0y".to_owned(), want),
    ];
    assert_eq!(here.wants.hear(wrong.to_vec()).unwrap(), 0);
    assert!(here.wants.known().unwrap().heads.is_empty());
    // More than there may be, in portions.
    let gone = WantV1 {
        manifest: String::new(),
        bytes: 0,
        answers: vec![AnswerV1 { gateway: NOBODY, code: String::new(), text: String::new(), at_ms: 1 }],
        ..read.clone()
    };
    let many = |of: &WantV1, count: usize| -> Vec<_> {
        (0..count)
            .map(|n| (format!("s{n}"), format!("p{}", of.bytes), WantV1 { number: n as u64, ..of.clone() }.encode()))
            .collect()
    };
    for all in [many(&read, WANTS_MAX + 70), many(&gone, GONE_MAX + 70)] {
        for chunk in all.chunks(ENTRIES_AT_ONCE_MAX) {
            here.wants.hear(chunk.to_vec()).unwrap();
        }
    }
    let all = here.wants.all().unwrap();
    let gone: Vec<u64> = all.iter().filter(|(.., want)| want.is_gone()).map(|(.., want)| want.number).collect();
    assert_eq!((all.len() - gone.len(), gone.len()), (WANTS_MAX, GONE_MAX));
    assert_eq!(gone.into_iter().min(), Some(70), "the oldest went");
    [here, there].iter().for_each(|lab| lab.wants.log.close());
}
