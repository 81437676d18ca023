//! Device twins: set by hand, told to devices, reported, refused, over crashes.

mod page;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use devices::client::{Config, Fate, Handlers, TwinHandler, blocking};
use devices::twin::{Document, Told};
use serde_json::{Value, json};

use crate::harness::cli::Ran;
use crate::harness::components::{hostile, hostile_manifest};
use crate::harness::http::get;
use crate::harness::mqtt::{BOTH, Client, Connect, Message, Value as Property, Version, id};
use crate::harness::{Node, wait};
use crate::mosquitto::{Subscriber, present, publish};

/// `edgeway twin set`.
fn set(node: &Node, device: &str, document: &str, more: &[&str]) -> Ran {
    node.cli(&[&["twin", "set", device, document, "--json"], more].concat())
}

fn twin(node: &Node, device: &str) -> Value {
    node.get(&format!("twins/{device}")).ok().json()
}

fn wait_reported(node: &Node, device: &str, version: u64) -> Value {
    wait::until("what is reported", || {
        let shown = node.get(&format!("twins/{device}"));
        let twin = (shown.status == 200).then(|| shown.json())?;
        (twin["reported"]["version"] == version).then_some(twin)
    })
}

/// A device by hand that listens for its twin.
fn device(node: &Node, version: Version, name: &str) -> Client {
    let mut client = Client::connect(node.mqtt, &Connect::new(version, name));
    assert_eq!(client.subscribe(&format!("edgeway/twin/{name}/#"), 1), 1);
    client
}

fn told(client: &mut Client) -> (String, Value) {
    let message = client.message();
    assert_eq!(message.qos, 1);
    (message.topic.clone(), serde_json::from_str(&message.text()).unwrap())
}

#[test]
fn mosquitto_is_a_device() {
    if !present("mosquitto_is_a_device") {
        return;
    }
    let mut node = Node::start();
    for version in ["mqttv311", "mqttv5"] {
        let filter = format!("edgeway/twin/{version}/#");
        let on = |what: &str| format!("edgeway/twin/{version}/{what}");
        let subscriber = Subscriber::start(&node, version, 1, &["-q", "1", "-t", &filter]);
        set(&node, version, r#"{"interval_s":30,"unit":"C"}"#, &["--if-version", "0"]).ok();
        let delta = format!(r#"{} 1 0 {{"version":1,"delta":{{"interval_s":30,"unit":"C"}}}}"#, on("delta/1"));
        assert_eq!(subscriber.messages(), [delta]);
        publish(&node, version, &["-q", "1", "-t", &on("reported"), "-m", r#"{"unit":"C","fw":"1.2"}"#]);
        let known = wait_reported(&node, version, 1);
        assert_eq!(known["delta"], json!({"interval_s": 30}));
        assert!(known["reported"]["by"].as_str().is_some_and(|by| by.starts_with("device:")));

        // What is left to do is there after a crash, and a device that comes is told so; so is one that asks.
        node.kill();
        node.run();
        assert_eq!(twin(&node, version), known);
        let subscriber = Subscriber::start(&node, version, 1, &["-q", "1", "-t", &filter]);
        let left = format!(r#"{} 1 0 {{"version":1,"delta":{{"interval_s":30}}}}"#, on("delta/1"));
        assert_eq!(subscriber.messages(), [left]);
        publish(&node, version, &["-q", "1", "-t", &on("reported/1"), "-m", r#"{"interval_s":30.0,"unit":null}"#]);
        wait_reported(&node, version, 2);
        set(&node, version, r#"{"interval_s":30}"#, &["--replace"]).ok();
        assert_eq!(twin(&node, version)["delta"], json!({}));
        let subscriber = Subscriber::start(&node, version, 2, &["-q", "1", "-t", &filter]);
        publish(&node, version, &["-q", "1", "-t", &on("get"), "-n"]);
        publish(&node, version, &["-q", "1", "-t", &on("reported/1"), "-m", "{}"]);
        let told = subscriber.messages();
        let state = r#"{"desired":{"version":2,"state":{"interval_s":30}},"reported":{"version":2,"state":{"fw":"1.2","interval_s":30.0}}}"#;
        assert!(told.contains(&format!("{} 1 0 {state}", on("state"))), "{told:?}");
        let refused = format!(r#"{} 1 0 {{"code":"version_conflict","text":"#, on("refused"));
        assert!(
            told.iter().any(|message| message.starts_with(&refused) && message.ends_with("\"version\":2}")),
            "{told:?}"
        );
    }
}

#[test]
fn every_report_that_cannot_be_is_refused_by_code() {
    let node = Node::start();
    for version in BOTH {
        let name = format!("d{}", version as u8);
        let mut client = device(&node, version, &name);
        let reported = format!("edgeway/twin/{name}/reported");
        let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(16 << 10));
        let deep = format!("{}1{}", r#"{"a":"#.repeat(17), "}".repeat(17));
        let mut cases = vec![
            (Message::new(&reported, "21.5"), "bad_document"),
            (Message::new(&reported, "{"), "bad_document"),
            (Message::new(&reported, &deep), "bad_document"),
            (Message::new(&reported, &large), "too_large"),
            (Message::new(&format!("{reported}/4"), "{}"), "version_conflict"),
        ];
        if version == Version::V5 {
            let property = |value: &str| Property::Pair("version".to_owned(), value.to_owned());
            cases.push((Message::new(&reported, "{}").with(id::USER, property("9")), "version_conflict"));
            cases.push((Message::new(&reported, "{}").with(id::USER, property("x")), "bad_version"));
        }
        for (message, code) in cases {
            assert_eq!(client.publish(&message.qos(1)), 0, "it is durable, whatever comes of it");
            let (topic, why) = told(&mut client);
            assert_eq!((topic, &why["code"]), (format!("edgeway/twin/{name}/refused"), &json!(code)));
        }
        assert_eq!(node.get(&format!("twins/{name}")).status, 404);
        // A device cannot speak for the node, nor for people.
        for what in ["delta/1", "desired", "reported/x", "state"] {
            let message = Message::new(&format!("edgeway/twin/{name}/{what}"), "{}").qos(1);
            if version == Version::V5 {
                assert_eq!(client.publish(&message), 0x87, "{what}");
            }
        }
    }
}

#[test]
fn people_set_with_conditions_and_are_told_of_conflicts() {
    let node = Node::start();
    let first = set(&node, "pump 7", r#"{"a":{"b":1},"c":2}"#, &["--if-version", "0"]).ok().json();
    assert_eq!((&first["version"], &first["desired"]["by"]), (&json!(1), &json!("cli")));
    let conflict = set(&node, "pump 7", "{}", &["--if-version", "0"]);
    assert_eq!(conflict.code, 1);
    assert!(conflict.err.contains("the version is 1, not 0"), "{}", conflict.err);
    assert_eq!(set(&node, "pump 7", r#"{"a":{"b":null},"c":2}"#, &[]).ok().json()["desired"]["version"], 2);
    assert_eq!(set(&node, "pump 7", r#"{"c":2}"#, &[]).ok().json()["desired"]["version"], 2, "no change");

    let call = |method: &str, path: &str, body: Value| {
        let answer = node.call(method, &format!("twins/{path}"), Some(&body));
        let code = if answer.status < 300 {
            String::new()
        } else {
            answer.json()["error"]["code"].as_str().unwrap().to_owned()
        };
        (answer.status, code)
    };
    let large = json!({"a": "x".repeat(16 << 10)});
    for (method, path, body, status, code) in [
        ("PATCH", "pump%207?if_version=1", json!({}), 409, "version_conflict"),
        ("PUT", "pump%207?if_version=9", json!({}), 409, "version_conflict"),
        ("PATCH", "pump%207", json!([]), 400, "bad_document"),
        ("PUT", "pump%207", large, 413, "too_large"),
        ("PATCH", "a%2Fb", json!({}), 400, "bad_request"),
        ("PATCH", "pump%207?if=1", json!({}), 400, "bad_request"),
        ("DELETE", "nobody", json!({}), 404, "no_twin"),
        ("DELETE", "pump%207?if_version=1", json!({}), 409, "version_conflict"),
        ("PUT", "pump%207?if_version=2", json!({"z": 1}), 200, ""),
    ] {
        assert_eq!(call(method, path, body), (status, code.to_owned()), "{method} {path}");
    }
    assert_eq!(node.cli(&["twin", "get", "nobody"]).code, 4);
    assert_eq!(node.cli(&["twin", "list", "--json", "--differing"]).ok().lines()[0]["device"], "pump 7");
    assert!(node.cli(&["twin", "get", "pump 7"]).ok().out.contains(r#"desired   {"z":1}   version 3, by api"#));
    node.cli(&["twin", "delete", "pump 7", "--if-version", "3"]).ok();
    assert_eq!(node.cli(&["twin", "list"]).ok().out.trim(), "no device has a twin yet");
    let acts: Vec<String> = node
        .events("_audit")
        .iter()
        .map(|act| serde_json::from_str::<Value>(&act.text()).unwrap()["outcome"].to_string())
        .collect();
    assert!(acts.len() >= 8 && acts.contains(&"\"version_conflict\"".to_owned()), "{acts:?}");
}

#[test]
fn who_watches_sees_every_change() {
    let node = Node::start();
    set(&node, "fan", r#"{"n":1}"#, &[]).ok();
    let mut watching = node.command(&["twin", "watch", "fan", "--json", "--max", "3"]);
    let mut watching = watching.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut client = device(&node, Version::V3, "fan");
    for number in 1..=3 {
        let shown: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!((&shown["version"], &shown["reported"]["version"]), (&json!(number), &json!(number - 1)));
        let report = Message::new("edgeway/twin/fan/reported", format!(r#"{{"n":{}}}"#, number + 1)).qos(1);
        assert_eq!(client.publish(&report), 0);
    }
    assert!(watching.wait().unwrap().success());
    wait_reported(&node, "fan", 3);
    let metrics = get(node.http, "/metrics", None).unwrap().body;
    for line in ["edgeway_twins 1", "edgeway_twin_changes_total{outcome=\"reported\"} 3", "edgeway_twins_differing 1"] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[test]
fn a_killed_node_has_every_accepted_change_once() {
    let mut node = Node::start();
    let mut accepted = 0;
    for _ in 0..3 {
        let mut client = device(&node, Version::V5, "valve");
        for _ in 0..20 {
            let path = format!("twins/valve?if_version={accepted}");
            accepted += 1;
            node.call("PATCH", &path, Some(&json!({"n": accepted}))).ok();
            let report = Message::new("edgeway/twin/valve/reported", format!(r#"{{"n":{accepted}}}"#)).qos(1);
            client.send(&report.encode(Version::V5)); // not awaited
        }
        node.kill();
        node.run();
        let twin = twin(&node, "valve");
        assert_eq!(
            (&twin["desired"]["version"], &twin["desired"]["state"]),
            (&json!(accepted), &json!({"n": accepted}))
        );
    }
    let mut client = device(&node, Version::V5, "valve");
    assert_eq!(client.publish(&Message::new("edgeway/twin/valve/reported", r#"{"end":true}"#).qos(1)), 0);
    wait::until_true("the last report", || twin(&node, "valve")["reported"]["state"]["end"] == true);
    let reported = twin(&node, "valve")["reported"]["version"].as_u64().unwrap();
    let changes = node.events_when("_twins", (accepted + reported) as usize);
    assert_eq!(changes.len() as u64, accepted + reported);
    for half in ["desired", "reported"] {
        let changes = changes.iter().map(|change| change.json());
        let versions: Vec<u64> =
            changes.filter(|change| change["half"] == half).map(|change| change["version"].as_u64().unwrap()).collect();
        let expected: Vec<u64> = (1..=versions.len() as u64).collect();
        assert_eq!(versions, expected, "{half}: each once and in order");
    }
}

#[test]
fn a_plugin_reads_what_is_reported_and_sets_what_is_desired() {
    let routing = "[[routing.rules]]\npattern = 'in/#'\ntopic = 'in'\nkey = 'one'\n";
    let mut node = Node::start_with(routing);
    let manifest = hostile_manifest("in");
    let refused = node.deploy(&hostile(), &manifest.replace("twins = 'set'\n", ""));
    assert!(refused.status == 422 && refused.body.contains("grants.twins"), "{refused:?}");
    node.deploy(&hostile(), &manifest).ok();
    let mut source = Client::simple(node.mqtt, Version::V5, "source");
    let say = |client: &mut Client, value: &str| {
        assert_eq!(client.publish(&Message::new("in/x", value).qos(1)), 0);
    };
    // The plugin sets the twin of a device that is called `out`.
    let mut out = device(&node, Version::V5, "out");
    say(&mut source, r#"D{"n":1}"#);
    assert_eq!(told(&mut out).1, json!({"version": 1, "delta": {"n": 1}}));
    say(&mut source, "W before it has reported");
    assert_eq!(node.events_when("_dead_letters", 1)[0].text(), "W before it has reported");
    assert_eq!(out.publish(&Message::new("edgeway/twin/out/reported", r#"{"n":1}"#).qos(1)), 0);
    wait_reported(&node, "out", 1);
    say(&mut source, "W after it has reported");
    assert_eq!(node.events_when("out", 1)[0].text(), "W after it has reported");

    // Many wishes, and a crash among them: each counts once.
    for number in 2..200 {
        say(&mut source, &format!(r#"D{{"n":{number}}}"#));
    }
    node.kill();
    node.run();
    let set =
        wait::until("the last wish", || Some(twin(&node, "out")).filter(|twin| twin["desired"]["state"]["n"] == 199));
    assert_eq!((&set["desired"]["version"], &set["desired"]["by"]), (&json!(199), &json!("plugin:hostile")));
    assert_eq!(node.events("_wishes").len(), 199);
}

/// A device of ours: it takes over what it is told, and counts how often.
fn client(url: &str, name: &str, told: &Arc<Mutex<Vec<Told>>>) -> blocking::Client {
    let mut config = Config::from_url(url, name).unwrap();
    config.backoff_max = Duration::from_millis(300);
    let heard = Arc::clone(told);
    config.twin = Some(TwinHandler::new(move |news| {
        if let Told::Delta { delta, .. } = &news.told {
            news.report(delta.to_json()).unwrap();
        }
        heard.lock().unwrap().push(news.told);
    }));
    blocking::Client::start(config, Handlers::new()).unwrap()
}

#[test]
fn our_client_does_what_it_is_told_by_every_door() {
    let mut node = Node::start_with("[listen]\nquic = '127.0.0.1:0'\n");
    for version in ["quic", "5", "3"] {
        let url = match version {
            "quic" => {
                let written = |name: &str| std::fs::read_to_string(node.data().join(name)).unwrap();
                format!("quic://{}?pin={}", written("quic.addr"), written("quic.fingerprint"))
            }
            "5" => format!("mqtt://{}", node.mqtt),
            _ => format!("mqtt://{}?version=3.1.1", node.mqtt),
        };
        let name = format!("d{version}");
        set(&node, &name, r#"{"a":1,"b":{"c":[1,2]}}"#, &[]).ok();
        let told = Arc::default();
        let device = client(&url, &name, &told);
        assert_eq!(wait_reported(&node, &name, 1)["delta"], json!({}), "{version}");
        set(&node, &name, r#"{"a":2}"#, &[]).ok();
        wait_reported(&node, &name, 2);
        assert!(matches!(device.report("{}", Some(7)).unwrap().wait(), Fate::Acked { .. }));
        assert!(matches!(device.ask_for_twin().unwrap().wait(), Fate::Acked { .. }));
        wait::until_true("all is told", || told.lock().unwrap().len() >= 4);
        let told = std::mem::take(&mut *told.lock().unwrap());
        let document = |json: &str| Document::parse(json.as_bytes()).unwrap();
        assert_eq!(told[0], Told::Delta { version: 1, delta: document(r#"{"a":1,"b":{"c":[1,2]}}"#) });
        assert_eq!(told[1], Told::Delta { version: 2, delta: document(r#"{"a":2}"#) });
        let whole = document(r#"{"a":2,"b":{"c":[1,2]}}"#);
        assert!(told.contains(&Told::State { desired: (2, whole.clone()), reported: (2, whole) }), "{told:?}");
        assert!(
            told.iter()
                .any(|told| matches!(told, Told::Refused { code, version: 2, .. } if code == "version_conflict"))
        );
        assert_eq!(device.stop(Duration::from_secs(30)), 0);
    }
    node.stop();
}
