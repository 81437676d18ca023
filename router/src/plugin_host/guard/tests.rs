//! Guards in their sandbox, with what other plugins keep in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use devices::command::CommandId;
use parking_lot::Mutex;

use super::test_guard::{MANIFEST, hostile};
use super::*;
use crate::plugin_host::engine::Ticking;
use crate::plugin_host::manifest::Manifest;
use crate::plugin_host::registry::RecordV2;
use crate::plugin_host::status::RunState;
use crate::security::{Asked, Guard, Judgement};

type Values = BTreeMap<(String, Vec<u8>), Vec<Vec<u8>>>;

#[derive(Default)]
struct InMemory(Mutex<Values>);

impl Kept for InMemory {
    fn values(&self, plugin: &str, key: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        if key == b"broken" {
            return Err("no disk".to_owned());
        }
        Ok(self.0.lock().get(&(plugin.to_owned(), key.to_vec())).cloned().unwrap_or_default())
    }
}

struct Bench {
    ticking: Arc<Ticking>,
    component: wasmtime::component::Component,
    kept: Arc<InMemory>,
    roster: Roster,
}

impl Bench {
    fn new() -> Bench {
        let ticking = Arc::new(Ticking::start().unwrap());
        let component = wasmtime::component::Component::from_binary(ticking.engine(), &hostile()).unwrap();
        Bench { ticking, component, kept: Arc::default(), roster: Roster::default() }
    }

    fn template(&self, manifest: &str) -> Template {
        let manifest = Arc::new(Manifest::parse(manifest).unwrap());
        let kept = Arc::clone(&self.kept) as _;
        Template::new(Arc::clone(&self.ticking), &self.component, manifest, Arc::new(|| 1_000), kept).unwrap()
    }

    /// Puts the hostile guard on duty under a name.
    fn post(&self, manifest: &str) -> Arc<Post> {
        let sandbox = Sandbox::new(Arc::new(self.template(manifest)));
        let manifest = Arc::new(Manifest::parse(manifest).unwrap());
        let post = Arc::new(Post::ready(manifest, record(), Arc::default(), sandbox));
        self.roster.put(Arc::clone(&post));
        post
    }

    fn judge(&self, payload: &str) -> Judgement {
        self.roster.judge(&asked("open-valve", payload))
    }
}

fn record() -> RecordV2 {
    RecordV2 { manifest: String::new(), ..RecordV2::default() }
}

pub fn asked(name: &str, payload: &str) -> Asked {
    Asked {
        id: CommandId::v7(1, [2; 10]),
        device: "valve-1".into(),
        name: name.to_owned(),
        payload: payload.as_bytes().to_vec(),
        issued_by: "cli".to_owned(),
        urgent: false,
    }
}

fn denied(guard: &str, reason: &str) -> Judgement {
    Judgement::Deny { guard: guard.to_owned(), reason: reason.to_owned() }
}

fn rewritten(guard: &str, payload: &str) -> Judgement {
    Judgement::Rewrite { guard: guard.to_owned(), payload: payload.as_bytes().to_vec() }
}

/// The reason, of a judgement that must be a failure.
fn failed(judgement: Judgement) -> String {
    match judgement {
        Judgement::Failed { guard, reason } if guard == "hostile-guard" => reason,
        other => panic!("{other:?}"),
    }
}

const NAME: &str = "hostile-guard";

#[test]
fn what_a_guard_says_is_what_happens() {
    let bench = Bench::new();
    assert!(!bench.roster.is_on_duty());
    assert_eq!(bench.judge("D"), Judgement::Allow, "nobody is on duty");
    let post = bench.post(MANIFEST);
    assert!(bench.roster.is_on_duty());
    assert_eq!(bench.judge(""), Judgement::Allow);
    assert_eq!(bench.judge("D"), denied(NAME, "told so"));
    assert_eq!(bench.judge("Wx"), rewritten(NAME, "x"));
    assert_eq!(bench.judge("W"), rewritten(NAME, ""));
    assert_eq!(bench.judge("V"), denied(NAME, &"x".repeat(256)), "a long reason is cut");
    assert_eq!(bench.roster.judge(&asked("close", "D")), Judgement::Allow, "not wanted, not asked");
    let urgent = Asked { urgent: true, ..asked("open", "D") };
    assert_eq!(bench.roster.judge(&urgent), denied(NAME, "told so"), "shown like any other");
    let figures = GuardFigures { asked: 6, allowed: 1, denied: 3, rewritten: 2, failed: 0, overridden: 1 };
    assert_eq!(post.counters.figures(), figures);
    bench.roster.remove(NAME);
    assert!(!bench.roster.is_on_duty());
}

#[test]
fn a_guard_that_fails_keeps_the_command_back_and_is_made_anew() {
    let bench = Bench::new();
    let post = bench.post(MANIFEST);
    assert_eq!(bench.judge("N"), rewritten(NAME, "1"));
    assert_eq!(bench.judge("N"), rewritten(NAME, "2"), "instances live long");
    let cases = [
        ("T", "trap: wasm `unreachable` instruction executed"),
        ("P", "panicked at x"),
        ("L", "the call took longer than 250 ms"),
        ("B", "more memory than 8 MiB"),
        ("O", "it gives a payload of 16385 bytes; 16384 can be"),
        ("U", "the state of `secret` is not granted"),
        ("Sbroken", "the store failed: no disk"),
    ];
    for (payload, want) in cases {
        let begin = Instant::now();
        let reason = failed(bench.judge(payload));
        assert!(reason.contains(want), "{payload}: {reason}");
        assert!(begin.elapsed() < Duration::from_secs(8), "{payload}: {:?}", begin.elapsed());
        assert_eq!(post.state(), RunState::BackingOff(reason));
        assert_eq!(bench.judge("N"), rewritten(NAME, "1"), "after {payload}");
        assert_eq!(post.state(), RunState::Running);
    }
    assert_eq!(post.counters.figures().failed, cases.len() as u64);
}

#[test]
fn guards_are_asked_in_the_order_of_their_names_and_each_sees_the_one_befores_payload() {
    let bench = Bench::new();
    let named = |name: &str| MANIFEST.replace(NAME, name);
    let second = bench.post(&named("b"));
    bench.post(&named("a"));
    assert_eq!(bench.judge("x"), Judgement::Allow);
    assert_eq!(bench.judge("D"), denied("a", "told so"));
    assert_eq!(second.counters.figures().asked, 1, "the first that does not allow ends it");
    assert_eq!(bench.judge("Wx"), rewritten("a", "x"));
    assert_eq!(bench.judge("WDx"), denied("b", "told so"));
    assert_eq!(bench.judge("WWx"), rewritten("b", "x"));
    assert!(matches!(bench.judge("WT"), Judgement::Failed { guard, .. } if guard == "b"));
}

#[test]
fn a_guard_reads_what_others_keep() {
    let bench = Bench::new();
    bench.post(MANIFEST);
    assert_eq!(bench.judge("Spump"), Judgement::Allow);
    let key = ("hostile".to_owned(), b"pump".to_vec());
    bench.kept.0.lock().insert(key, vec![b"9 bar".to_vec(), b"old".to_vec()]);
    assert_eq!(bench.judge("Spump"), denied(NAME, "9 bar"));
}

#[test]
fn a_guard_that_is_loading_or_broken_keeps_commands_back() {
    let bench = Bench::new();
    let manifest = Arc::new(Manifest::parse(MANIFEST).unwrap());
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let template = bench.template(MANIFEST);
    let post = Post::load(Arc::clone(&manifest), record(), move || {
        wait.recv().map_err(|error| error.to_string())?;
        Ok(template)
    });
    let post = post.unwrap();
    bench.roster.put(Arc::clone(&post));
    assert_eq!((post.state(), bench.roster.is_on_duty()), (RunState::Starting, true));
    assert_eq!(failed(bench.judge("x")), "the guard is still being loaded");
    go.send(()).unwrap();
    let begin = Instant::now();
    while bench.judge("x") != Judgement::Allow {
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", post.state());
    }
    assert_eq!(post.state(), RunState::Running);

    let broken = Post::load(manifest, record(), || Err("no file".to_owned())).unwrap();
    bench.roster.put(Arc::clone(&broken));
    let reason = failed(bench.judge("x"));
    assert_eq!(reason, "the guard cannot be loaded: no file");
    assert_eq!(broken.state(), RunState::Broken("no file".to_owned()));
    assert_eq!(bench.roster.judge(&asked("close", "")), Judgement::Allow, "what it does not judge goes");
}

#[test]
fn a_guard_that_does_not_start_keeps_commands_back() {
    let bench = Bench::new();
    bench.post(&format!("{MANIFEST}\n[config]\nany = 1"));
    for _ in 0..2 {
        assert_eq!(failed(bench.judge("x")), "the plugin cannot be started: no settings wanted");
    }
}

#[test]
fn a_slow_guard_delays_its_own_commands_alone_and_none_longer_than_its_time() {
    let bench = Bench::new();
    let slow = MANIFEST.replace(NAME, "slow").replace("open*", "slow");
    bench.post(&slow);
    bench.post(MANIFEST);
    std::thread::scope(|scope| {
        let loops: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let begin = Instant::now();
                    let judgement = bench.roster.judge(&asked("slow", "L"));
                    (begin.elapsed(), judgement)
                })
            })
            .collect();
        let mut slowest = Duration::ZERO;
        for _ in 0..100 {
            let begin = Instant::now();
            assert_eq!(bench.judge("x"), Judgement::Allow);
            slowest = slowest.max(begin.elapsed());
        }
        assert!(slowest < Duration::from_millis(750), "{slowest:?}");
        for one in loops {
            let (time, judgement) = one.join().unwrap();
            assert!(matches!(judgement, Judgement::Failed { .. }), "{judgement:?}");
            assert!(time < Duration::from_secs(8), "{time:?}");
        }
    });
}
