//! The calls of `/v1` as real requests against real rooms on a memory store.

mod site_and_links;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;

use serde_json::{Value, json};
use sled_data::{MemoryBackend, Options, Store};
use tokio::sync::watch;

use site_and_links::{Alone, NoLinks};

use super::*;
use crate::admin::{Server, State};
use crate::clock::Clock;
use crate::subscriptions::FanOut;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

struct Fixture {
    server: Server,
    log: Arc<EventLog>,
    readiness: Arc<Readiness>,
    plugins: Arc<PluginHost>,
    stop: watch::Sender<bool>,
    caller: Caller,
    _folder: tempfile::TempDir,
}

/// Calls from a thread of its own.
#[derive(Clone)]
struct Caller {
    agent: ureq::Agent,
    base: String,
    bearer: String,
}

impl Caller {
    fn read(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> (u16, Value) {
        let answer = answer.unwrap();
        let status = answer.status().as_u16();
        let text = answer.into_body().read_to_string().unwrap();
        let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(Value::from(text)) };
        (status, body)
    }

    fn get(&self, path: &str) -> (u16, Value) {
        Self::read(self.agent.get(format!("{}{path}", self.base)).header("Authorization", &self.bearer).call())
    }

    fn delete(&self, path: &str) -> (u16, Value) {
        Self::read(self.agent.delete(format!("{}{path}", self.base)).header("Authorization", &self.bearer).call())
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.agent.post(format!("{}{path}", self.base)).header("Authorization", &self.bearer);
        Self::read(request.send_json(body))
    }

    fn lines(&self, path: &str) -> impl Iterator<Item = String> + use<> {
        let request = self.agent.get(format!("{}{path}", self.base)).header("Authorization", &self.bearer);
        let answer = request.call().unwrap();
        assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
        BufReader::new(answer.into_body().into_reader()).lines().map(Result::unwrap)
    }
}

async fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let backend: Arc<dyn sled_data::Backend> = Arc::new(MemoryBackend::new());
    let (store, _) = Store::on(backend, Options { seed: Some(3), ..Options::default() }).unwrap();
    let log = EventLog::open(Arc::new(store), Arc::new(Clock::starting_after(0)), Default::default()).unwrap();
    let fan_out = Arc::new(FanOut::new(Default::default()));
    log.ensure_topic(crate::event_log::AUDIT_TOPIC, None).unwrap();
    let catalog = crate::catalog::Catalog::open(Arc::clone(&log), Default::default()).unwrap();
    let sessions = Sessions::open(Arc::clone(&log), fan_out, Default::default()).with_catalog(Arc::clone(&catalog));
    let sessions = Arc::new(sessions);
    let rooms = Rooms {
        commands: Commands::open(Arc::clone(&log), Arc::clone(&sessions), Default::default()).unwrap(),
        twins: Twins::open(Arc::clone(&log), Arc::clone(&sessions), Default::default()).unwrap(),
        plugins: Arc::new(PluginHost::start(Arc::clone(&log), &folder.path().join("plugins")).unwrap()),
        wants: Arc::new(crate::plugin_host::Wants::open(Arc::clone(&log), &folder.path().join("wants")).unwrap()),
        identity: Identity { name: "n1".into(), mqtt: LOOPBACK, secure: Arc::default() },
        readiness: Arc::default(),
        quic: Arc::default(),
        directory: Directory::new(catalog, Arc::clone(&sessions), Arc::clone(&log)),
        sessions,
        ingest: Arc::new(Ingest::new(Arc::clone(&log), &Default::default(), Default::default()).unwrap()),
        log: Arc::clone(&log),
        site: Arc::new(Alone),
        links: Arc::new(NoLinks),
    };
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(Arc::clone(&rooms.commands).run(stopped));
    let config = Config { tails_max: 2, ..Config::default() };
    let (open, guarded) = (rooms.open_routes(), rooms.guarded_routes(&config));
    let server = Server::start(LOOPBACK, &config, folder.path(), open, guarded).await.unwrap();
    let token = std::fs::read_to_string(folder.path().join("admin.token")).unwrap();
    let caller = Caller {
        agent: ureq::Agent::config_builder().http_status_as_error(false).max_idle_connections(0).build().into(),
        base: format!("http://{}", server.addr()),
        bearer: format!("Bearer {}", token.trim()),
    };
    Fixture { server, log, readiness: rooms.readiness, plugins: rooms.plugins, stop, caller, _folder: folder }
}

impl Fixture {
    /// Runs calls beside the server, then stops both.
    async fn run(self, calls: impl FnOnce(&Caller) + Send + 'static) {
        let caller = self.caller.clone();
        tokio::task::spawn_blocking(move || calls(&caller)).await.unwrap();
        self.readiness.set(State::Stopping);
        self.server.stop().await;
        self.stop.send_replace(true);
        let close = move || {
            self.plugins.stop();
            self.log.close();
        };
        tokio::task::spawn_blocking(close).await.unwrap();
    }
}

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["error"]["code"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn topics_are_made_shown_and_deleted() {
    let calls = |caller: &Caller| {
        let made = caller.post("/v1/topics", &json!({"name": "a", "partitions": 2, "compression": "zstd"}));
        assert_eq!((made.0, &made.1["partitions"], &made.1["compression"]), (201, &json!(2), &json!("zstd")));
        let extents: Vec<Value> = made.1["extents"].as_array().unwrap().clone();
        assert!(extents.iter().all(|extent| extent["origin"].as_str().is_some_and(|origin| origin.len() == 16)));
        let extents = extents.iter().map(|extent| json!([extent["partition"], extent["start"], extent["end"]]));
        assert_eq!(extents.collect::<Vec<_>>(), [json!([0, 0, 0]), json!([1, 0, 0])]);
        assert_eq!(code(&caller.post("/v1/topics", &json!({"name": "a"}))), (409, "conflict"));
        assert_eq!(code(&caller.post("/v1/topics", &json!({"name": "a b"}))), (400, "bad_request"));
        assert_eq!(code(&caller.post("/v1/topics", &json!({"name": "b", "partitions": 0}))), (400, "bad_request"));
        assert_eq!(code(&caller.post("/v1/topics", &json!({"name": "b", "x": 0}))), (400, "bad_request"));
        assert_eq!(code(&caller.post("/v1/topics", &json!({"name": "_b"}))), (403, "internal_topic"));
        let list = caller.get("/v1/topics").1;
        let list = list["topics"].as_array().unwrap();
        let (own, others): (Vec<&Value>, Vec<&Value>) = list.iter().partition(|topic| topic["internal"] == true);
        assert_eq!((others.len(), &others[0]["durability"]), (1, &json!("sync")));
        assert!(own.iter().all(|topic| topic["name"].as_str().unwrap().starts_with('_')), "{own:?}");
        assert_eq!(caller.get("/v1/topics/a").1["name"], "a");
        assert_eq!(caller.delete("/v1/topics/a"), (204, Value::Null));
        assert_eq!(code(&caller.delete("/v1/topics/a")), (404, "not_found"));
        assert_eq!(code(&caller.get("/v1/topics/a")), (404, "not_found"));
    };
    fixture().await.run(calls).await;
}

#[tokio::test]
async fn what_is_published_is_read_back() {
    let calls = |caller: &Caller| {
        caller.post("/v1/topics", &json!({"name": "t", "partitions": 3}));
        let events = json!({"events": [
            {"key": "k", "value": "one", "timestamp_ms": 1, "headers": {"a": "b"}},
            {"key": "k", "value_base64": "/w==", "timestamp_ms": 2},
            {"value": "three", "timestamp_ms": 3},
        ]});
        assert_eq!(caller.post("/v1/topics/t/events", &events), (200, json!({"topic": "t", "events": 3})));
        let lines: Vec<Value> =
            caller.lines("/v1/topics/t/events").map(|line| serde_json::from_str(&line).unwrap()).collect();
        let brief: Vec<Value> =
            lines.iter().map(|line| json!([line["timestamp_ms"], line["key"], line["offset"]])).collect();
        assert_eq!(brief, [json!([1, "k", 0]), json!([2, "k", 1]), json!([3, null, 0])]);
        assert_eq!((&lines[0]["value"], &lines[0]["headers"]), (&json!("one"), &json!({"a": "b"})));
        assert_eq!(lines[1]["value_base64"], "/w==");
        let latest = caller.get("/v1/topics/t/latest?key=k").1;
        assert_eq!((&latest["offset"], &latest["value_base64"]), (&json!(1), &json!("/w==")));
        assert_eq!(code(&caller.get("/v1/topics/t/latest?key=x")), (404, "not_found"));
        caller.post("/v1/topics/t/events", &json!({"events": [{"key": "k"}]}));
        let deleted = caller.get("/v1/topics/t/latest?key=k");
        assert!(deleted.0 == 404 && deleted.1["error"]["message"].as_str().unwrap().contains("was deleted"));
    };
    fixture().await.run(calls).await;
}

#[tokio::test]
async fn publishes_that_cannot_be_are_refused_whole() {
    let calls = |caller: &Caller| {
        caller.post("/v1/topics", &json!({"name": "t"}));
        let good = json!({"value": "x"});
        // (topic, events, status, code)
        let cases = [
            ("t", json!([]), 400, "bad_request"),
            ("t", json!([good, {"value": "x", "value_base64": ""}]), 400, "bad_request"),
            ("t", json!([good, {"value_base64": "?"}]), 400, "bad_request"),
            ("t", json!([good, {"value": "x", "headers": {"mqtt.qos": "1"}}]), 400, "bad_request"),
            ("t", json!([good, {"value": 5}]), 400, "bad_request"),
            ("u", json!([good]), 404, "not_found"),
            ("_commands", json!([good]), 403, "internal_topic"),
        ];
        for (topic, events, status, expected) in cases {
            let answer = caller.post(&format!("/v1/topics/{topic}/events"), &json!({"events": events}));
            assert_eq!(code(&answer), (status, expected), "{topic} {events}");
        }
        assert_eq!(caller.get("/v1/topics/t").1["events"], 0);
    };
    fixture().await.run(calls).await;
}

#[tokio::test]
async fn a_follower_gets_what_comes_and_ends_with_the_node() {
    let fixture = fixture().await;
    let (caller, readiness) = (fixture.caller.clone(), Arc::clone(&fixture.readiness));
    let calls = move |_: &Caller| {
        caller.post("/v1/topics", &json!({"name": "t"}));
        let mut lines = caller.lines("/v1/topics/t/events?from=end&follow=true");
        let mut bounded = caller.lines("/v1/topics/t/events?from=end&follow=true&max=1");
        let publish = json!({"events": [{"value": "a"}, {"value": "b"}]});
        caller.post("/v1/topics/t/events", &publish);
        assert!(lines.next().unwrap().contains(r#""value":"a""#));
        assert!(lines.next().unwrap().contains(r#""value":"b""#));
        assert!(bounded.next().unwrap().contains(r#""value":"a""#));
        assert_eq!(bounded.next(), None);
        let second = caller.lines("/v1/topics/t/events?follow=true");
        assert_eq!(code(&caller.get("/v1/topics/t/events")), (429, "too_many_tails"));
        drop(second);
        readiness.set(State::Stopping);
        assert_eq!(lines.next(), None);
    };
    fixture.run(calls).await;
}

#[tokio::test]
async fn tails_that_cannot_be_are_refused() {
    let calls = |caller: &Caller| {
        caller.post("/v1/topics", &json!({"name": "t", "partitions": 2}));
        let cases = [
            ("u", "", 404, "not_found"),
            ("t", "?partition=2", 404, "not_found"),
            ("t", "?from=now", 400, "bad_request"),
            ("t", "?follow=perhaps", 400, "bad_request"),
            ("t", "?form=start", 400, "bad_request"),
        ];
        for (topic, query, status, expected) in cases {
            let answer = caller.get(&format!("/v1/topics/{topic}/events{query}"));
            assert_eq!(code(&answer), (status, expected), "{topic} {query}");
        }
    };
    fixture().await.run(calls).await;
}

#[tokio::test]
async fn the_node_says_how_it_is() {
    let fixture = fixture().await;
    fixture.readiness.set(State::Ready);
    let calls = |caller: &Caller| {
        let status = caller.get("/v1/status").1;
        assert_eq!(
            (&status["name"], &status["state"], &status["problems"]),
            (&json!("n1"), &json!("ready"), &json!([]))
        );
        assert_eq!(status["store"]["origin"].as_str().unwrap().len(), 16);
        assert_eq!(caller.get("/v1/devices"), (200, json!({"devices": [], "next": null})));
        assert_eq!(caller.get("/readyz").0, 200);
        let metrics = caller.get("/metrics").1;
        assert!(metrics.as_str().unwrap().contains("edgeway_sessions 0"));
        let verified = caller.post("/v1/store/verify", &json!({})).1;
        assert_eq!((&verified["report"]["clean"], &verified["report"]["damaged"]), (&json!(true), &json!([])));
    };
    fixture.run(calls).await;
}

#[tokio::test]
async fn commands_are_sent_listed_and_waited_for() {
    let calls = |caller: &Caller| {
        let sent = caller.post(
            "/v1/commands",
            &json!({"device": "s1", "name": "cool", "payload": "{\"to\":5}", "deliver_within_ms": 700, "issued_by": "cli"}),
        );
        assert_eq!((sent.0, &sent.1["device"]), (202, &json!("s1")));
        let id = sent.1["id"].as_str().unwrap().to_owned();
        let shown = caller.get(&format!("/v1/commands/{id}")).1;
        assert_eq!(
            (&shown["state"], &shown["issued_by"], &shown["payload"]),
            (&json!("queued"), &json!("cli"), &json!("{\"to\":5}"))
        );
        let ended = caller.get(&format!("/v1/commands/{id}?wait_ms=20000")).1;
        assert_eq!(ended["state"], "expired");
        let count = |query: &str| caller.get(&format!("/v1/commands{query}")).1["commands"].as_array().unwrap().len();
        assert_eq!(
            [count(""), count("?device=s1&ended=true"), count("?state=queued"), count("?device=x")],
            [1, 1, 0, 0]
        );
        // (path, status, code)
        let cases = [
            ("/v1/commands/x", 400, "bad_request"),
            ("/v1/commands/017f22e2-79b0-7cc3-98c4-dc0c0c07398f", 404, "not_found"),
            ("/v1/commands?state=lost", 400, "bad_request"),
        ];
        for (path, status, expected) in cases {
            assert_eq!(code(&caller.get(path)), (status, expected), "{path}");
        }
        for body in [
            json!({"device": "a+b", "name": "cool"}),
            json!({"device": "a", "name": "+"}),
            json!({"device": "a", "name": "cool", "deliver_within_ms": 0}),
            json!({"name": "cool"}),
        ] {
            assert_eq!(code(&caller.post("/v1/commands", &body)), (400, "bad_request"), "{body}");
        }
        let metrics = caller.get("/metrics").1;
        assert!(metrics.as_str().unwrap().contains("edgeway_commands_ended_total{outcome=\"expired\"} 1"), "{metrics}");
    };
    fixture().await.run(calls).await;
}

#[tokio::test]
async fn plugins_that_cannot_be_are_refused_with_the_reason() {
    let calls = |caller: &Caller| {
        assert_eq!(caller.get("/v1/plugins"), (200, json!({"plugins": []})));
        assert_eq!(code(&caller.delete("/v1/plugins/x")), (404, "not_found"));
        let manifest = "name = 'a'\ntopics = ['t']";
        // (manifest, wasm, status, code, what the message must say)
        let cases = [
            (manifest, "AAAA", 422, "plugin_refused", "the plugin's file is refused"),
            (manifest, "?", 400, "bad_request", "wasm_base64 is no base64"),
            ("name = 'a'", "AAAA", 422, "plugin_refused", "must name 1 to 64 topics"),
        ];
        for (manifest, wasm, status, expected, said) in cases {
            let answer = caller.post("/v1/plugins", &json!({"manifest": manifest, "wasm_base64": wasm}));
            assert_eq!(code(&answer), (status, expected), "{answer:?}");
            assert!(answer.1["error"]["message"].as_str().unwrap().contains(said), "{answer:?}");
        }
        let large = "A".repeat(4 << 20);
        let answer = caller.post("/v1/plugins", &json!({"manifest": manifest, "wasm_base64": large}));
        assert_eq!(code(&answer), (422, "plugin_refused"), "its bound is its own");
    };
    fixture().await.run(calls).await;
}
