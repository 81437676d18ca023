//! Plugins on an event log in memory, with crashes.

use std::time::{Duration, Instant};

use sled_data::{Faults, MemoryBackend, Options, Store, TopicConfig};

use super::*;
use crate::clock::Clock;
use crate::event_log::{Config, NO_HEADERS, NewEvent};
use crate::plugin_host::round::reader_name;
use crate::plugin_host::test_guest::{MANIFEST, hostile};

struct Node {
    log: Arc<EventLog>,
    host: PluginHost,
}

fn node(backend: &Arc<MemoryBackend>, folder: &Path) -> Node {
    let backend: Arc<dyn sled_data::Backend> = Arc::clone(backend) as _;
    let (store, recovered) = Store::on(backend, Options { seed: Some(7), ..Options::default() }).unwrap();
    let clock = Arc::new(Clock::starting_after(recovered.last_hlc));
    let log = EventLog::open(Arc::new(store), clock, Config::default()).unwrap();
    let one = TopicConfig { partitions: 1, ..TopicConfig::default() };
    for topic in ["in", "out"] {
        log.ensure_topic(topic, Some(one.clone())).unwrap();
    }
    let host = PluginHost::start(Arc::clone(&log), folder).unwrap();
    Node { log, host }
}

impl Node {
    fn publish(&self, values: &[&str]) {
        let topic = self.log.topic("in").unwrap();
        let ticket = {
            let mut open = self.log.lock();
            for value in values {
                let event = NewEvent {
                    timestamp_ms: self.log.clock().wall_ms(),
                    key: Some(b"pump"),
                    value: Some(value.as_bytes()),
                    headers: &NO_HEADERS,
                    extra: &NO_HEADERS,
                    fanned_out: false,
                };
                open.append_keyed(&topic, &event).unwrap();
            }
            open.ticket()
        };
        self.log.durable_blocking(ticket).unwrap();
    }

    fn values(&self, topic: &str) -> Vec<String> {
        let Some(topic) = self.log.topic(topic) else { return vec![] };
        let mut values = Vec::new();
        for partition in topic.all_partitions() {
            let mut from = 0;
            while let Some(batch) = self.log.read(partition.id(), from, 1 << 20).unwrap().last().cloned() {
                for batch in self.log.read(partition.id(), from, 1 << 20).unwrap() {
                    let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap().to_vec()).unwrap();
                    values.extend(batch.events_from(from).map(|(_, record)| text(record.value)));
                }
                from = batch.next_offset();
            }
        }
        values
    }

    fn deploy(&self, manifest: &str) -> Result<Deployed, DeployError> {
        self.host.deploy(&hostile(), Manifest::parse(manifest).unwrap())
    }

    /// Waits until the plugin has read everything, and what it made of it is seen: its cursor is stored a moment before.
    /// What it did is counted a moment later.
    fn settle(&self) {
        self.wait_for(|status| status.lag_events == 0 && status.state == RunState::Running);
        let ticket = {
            let mut open = self.log.lock();
            open.put_state("settled", b"all", Some(b""));
            open.ticket()
        };
        self.log.durable_blocking(ticket).unwrap();
    }

    fn wait_for(&self, reached: impl Fn(&PluginStatus) -> bool) -> PluginStatus {
        let begin = Instant::now();
        loop {
            let status = self.host.list().pop().unwrap();
            if reached(&status) {
                return status;
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "{status:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn backend() -> (Arc<MemoryBackend>, tempfile::TempDir) {
    (Arc::new(MemoryBackend::new()), tempfile::tempdir().unwrap())
}

mod guards;

#[test]
fn effects_state_and_cursor_go_together_and_a_restart_goes_on() {
    let (backend, folder) = backend();
    let node1 = node(&backend, folder.path());
    node1.publish(&["before"]);
    node1.deploy(MANIFEST).unwrap();
    assert_eq!(node1.host.list()[0].state, RunState::Running, "on return");
    node1.publish(&["a", "T", "S1", "C", "R", "b"]);
    node1.settle();
    let status = node1.wait_for(|status| status.appended > 0 && status.commands > 0 && status.dead_letters > 0);
    assert_eq!(node1.values("out"), ["a", "S1", "b"], "begins at the end, and the rest of the batch goes on");
    assert_eq!(node1.values(DEAD_LETTERS), ["T", "R"]);
    assert_eq!((status.dead_letters, status.commands, status.appended), (2, 1, 3));
    let commands = node1.values("_commands");
    assert!(commands.len() == 1 && commands[0].contains("plugin:hostile"), "{commands:?}");
    node1.host.stop();
    node1.log.close();
    backend.power_cut(0);

    let node2 = node(&backend, folder.path());
    node2.settle();
    node2.publish(&["G1", "c"]);
    node2.settle();
    assert_eq!(node2.values("out"), ["a", "S1", "b", "G1", "c"], "nothing twice, and `S1` is still known");
    assert_eq!(node2.values(DEAD_LETTERS), ["T", "R"]);
}

const DEAD_LETTERS: &str = crate::plugin_host::DEAD_LETTERS_TOPIC;

#[test]
fn a_redeployed_plugin_goes_on_and_a_removed_one_begins_anew() {
    let (backend, folder) = backend();
    let node = node(&backend, folder.path());
    assert!(!node.deploy(MANIFEST).unwrap().redeployed);
    node.publish(&["a", "S1"]);
    node.settle();
    assert!(node.deploy(MANIFEST).unwrap().redeployed);
    node.publish(&["G1"]);
    node.settle();
    let status = node.wait_for(|status| status.appended > 2);
    assert_eq!(status.appended, 3, "counters go on");
    assert_eq!(node.values("out"), ["a", "S1", "G1"]);

    node.host.remove("hostile").unwrap();
    assert!(node.host.list().is_empty());
    assert!(matches!(node.host.remove("hostile"), Err(RemoveError::Unknown(_))));
    let from_start = format!("from = 'start'\n{MANIFEST}");
    node.deploy(&from_start).unwrap();
    node.settle();
    assert_eq!(node.values("out"), ["a", "S1", "G1", "a", "S1", "G1"], "from the start, again");
    let left = node.log.state_scan(STATE_TREE, b"", None, 10).unwrap();
    assert_eq!(left.len(), 1, "the old state went with the plugin: {left:?}");
}

/// A component that names its interfaces with another version, of the same length.
fn of_version(component: &[u8], version: &str) -> Vec<u8> {
    let mut other = component.to_vec();
    for at in 0..other.len().saturating_sub(version.len()) {
        if other[at..].starts_with(b"@1.1.0") {
            other[at..at + version.len()].copy_from_slice(version.as_bytes());
        }
    }
    other
}

#[test]
fn what_cannot_run_is_refused_with_the_reason() {
    let (backend, folder) = backend();
    let node = node(&backend, folder.path());
    let manifest = || Manifest::parse(MANIFEST).unwrap();
    let told = |wasm: &[u8], manifest: Manifest| match node.host.deploy(wasm, manifest) {
        Ok(deployed) => format!("{deployed:?}"),
        Err(error) => {
            assert!(error.is_refusal());
            error.to_string()
        }
    };
    let whole = hostile();
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 16].fill(0xff);
    let mut no_state = manifest();
    no_state.grants.state = false;
    let mut no_twins = manifest();
    no_twins.grants.twins = Default::default();
    let mut wrong_config = manifest();
    wrong_config.config.insert("any".into(), toml::Value::Integer(1));
    let mut wrong_name = manifest();
    wrong_name.name = "No".into();
    let other = of_version(&whole, "@2.0.0");
    let empty = b"\0asm\x0d\0\x01\0";
    let cases: Vec<(&[u8], Manifest, &str)> = vec![
        (b"", manifest(), "it is not a WebAssembly component"),
        (b"\0asm\x01\0\0\0", manifest(), "it is a core module; make it a component"),
        (&whole[..whole.len() / 3], manifest(), "the plugin's file is refused"),
        (&damaged, manifest(), "the plugin's file is refused"),
        (&other, manifest(), "build it again with this version's SDK (it has 2.0.0, this node has 1.1.0)"),
        (empty, manifest(), "does not fit the world `edgeway:plugin/plugin@1.1.0`"),
        (&whole, no_state, "a grant is missing: it keeps state"),
        (&whole, no_twins, "a grant is missing: it reads twins"),
        (&whole, wrong_config, "the plugin does not start: no settings wanted"),
        (&whole, wrong_name, "the manifest's `name`"),
    ];
    for (wasm, manifest, want) in cases {
        let got = told(wasm, manifest);
        assert!(got.contains(want), "{want}: {got}");
    }
    assert!(node.host.list().is_empty());
}

#[test]
fn nothing_stays_of_what_is_refused() {
    let (backend, folder) = backend();
    let node = node(&backend, folder.path());
    let compiled = || std::fs::read_dir(folder.path().join("compiled")).unwrap().count();
    let manifest = Manifest::parse(MANIFEST).unwrap();
    let record = node.host.check(&hostile(), &manifest).unwrap();
    assert_eq!(compiled(), 1, "what may be agreed on is kept");
    node.host.release(&record.sha256);
    assert_eq!(compiled(), 0);
    let mut does_not_start = manifest;
    does_not_start.config.insert("any".into(), toml::Value::Integer(1));
    assert!(matches!(node.host.check(&hostile(), &does_not_start), Err(DeployError::Init(_))));
    assert_eq!(compiled(), 0, "it was compiled, and went");
}

#[test]
fn a_stored_plugin_whose_manifest_is_refused_now_is_broken_and_the_node_starts() {
    let (backend, folder) = backend();
    let node1 = node(&backend, folder.path());
    node1.deploy(MANIFEST).unwrap();
    node1.deploy(&MANIFEST.replace("hostile", "other")).unwrap();
    node1.host.stop();
    // As an earlier version has stored it.
    let key = b"other";
    let mut record = RecordV2::decode(&node1.log.state_get(PLUGINS_TREE, key).unwrap().unwrap()).unwrap();
    record.manifest = record.manifest.replace("\"out\"", "\"hq/recipes\"");
    node1.host.commit(|open| _ = open.put_state(PLUGINS_TREE, key, Some(&record.encode()))).unwrap();
    node1.log.close();
    let node2 = node(&backend, folder.path());
    let other = node2.wait_for(|status| matches!(status.state, RunState::Broken(_)));
    let told = matches!(&other.state, RunState::Broken(why) if why.contains("`hq/recipes` is another site's"));
    assert!(told && other.name == "other" && other.manifest.grants.emit == ["hq/recipes"], "{other:?}");
    node2.publish(&["S1"]);
    let begin = Instant::now();
    while node2.values("out").is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(20), "the other one runs");
        std::thread::sleep(Duration::from_millis(2));
    }
    node2.deploy(&MANIFEST.replace("hostile", "other")).unwrap();
    node2.wait_for(|status| status.name == "other" && status.state == RunState::Running);
}

#[test]
fn plugins_that_would_feed_each_other_are_refused() {
    let (backend, folder) = backend();
    let node = node(&backend, folder.path());
    node.deploy(MANIFEST).unwrap();
    let back = MANIFEST.replace("hostile", "back").replace("'in'", "'out'").replace("emit = ['out']", "emit = ['in']");
    let error = node.deploy(&back).unwrap_err().to_string();
    assert_eq!(error, "plugins would feed each other for ever: back -> hostile -> back");
}

#[test]
fn a_plugin_whose_file_was_lost_is_listed_as_broken() {
    let (backend, folder) = backend();
    let node1 = node(&backend, folder.path());
    node1.deploy(MANIFEST).unwrap();
    node1.host.stop();
    node1.log.close();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            std::fs::remove_file(path).unwrap();
        }
    }
    let node2 = node(&backend, folder.path());
    let status = node2.wait_for(|status| matches!(status.state, RunState::Broken(_)));
    assert!(matches!(&status.state, RunState::Broken(reason) if reason.contains(".wasm")), "{status:?}");
    node2.deploy(MANIFEST).unwrap();
    node2.settle();
}

#[test]
fn a_plugin_begins_at_a_start_where_it_has_read_nothing_of_a_life_that_has_ended() {
    let (backend, folder) = backend();
    let node1 = node(&backend, folder.path());
    node1.deploy(MANIFEST).unwrap();
    node1.deploy(&MANIFEST.replace("hostile", "other")).unwrap();
    node1.host.stop();
    node1.publish(&["S1", "S2"]);
    let reader = reader_name("hostile");
    let id = node1.log.topic("in").unwrap().all_partitions()[0].id();
    // As it is where the topic came later.
    node1.log.store().forget_reader(&reader).unwrap();
    assert_eq!(node1.log.cursor(&reader, id).unwrap(), None);
    node1.log.close();
    node1.log.store().end_life("as after a kill").unwrap();
    drop(node1);
    // Nothing of it can run: it reads nothing.
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            std::fs::remove_file(path).unwrap();
        }
    }
    let node2 = node(&backend, folder.path());
    node2.wait_for(|status| matches!(status.state, RunState::Broken(_)));
    node2.publish(&["S3"]);
    assert_eq!(node2.log.cursor(&reader, id).unwrap(), Some(0));
    assert_eq!(node2.log.cursor(&reader_name("other"), id).unwrap(), Some(0), "which it had");
}

#[test]
fn a_refused_commit_costs_time_and_nothing_else() {
    let (backend, folder) = backend();
    let node1 = node(&backend, folder.path());
    node1.deploy(MANIFEST).unwrap();
    node1.host.stop();
    node1.publish(&["S1", "T", "G1"]);
    node1.log.close();
    backend.set_faults(Faults { free_bytes: Some(0), ..Faults::default() });
    let node2 = node(&backend, folder.path());
    let status = node2.wait_for(|status| matches!(status.state, RunState::BackingOff(_)));
    assert_eq!(status.lag_events, 3);
    assert!(node2.values("out").is_empty() && node2.values(DEAD_LETTERS).is_empty());
    backend.set_faults(Faults::default());
    node2.settle();
    assert_eq!(node2.values("out"), ["S1", "G1"]);
    assert_eq!(node2.values(DEAD_LETTERS), ["T"]);
}

#[test]
fn where_a_removed_plugin_stood_is_forgotten() {
    let (backend, folder) = backend();
    let node1 = node(&backend, folder.path());
    node1.deploy(MANIFEST).unwrap();
    node1.publish(&["S1"]);
    node1.settle();
    node1.host.stop();
    node1.publish(&["nobody reads it", "nor this"]);
    node1.log.close();
    node1.log.store().end_life("as after a kill").unwrap();
    drop(node1);
    // Nothing of it can run: it stays behind.
    std::fs::read_dir(folder.path()).unwrap().for_each(|file| drop(std::fs::remove_file(file.unwrap().path())));
    let node2 = node(&backend, folder.path());
    let (store, reader) = (Arc::clone(node2.log.store()), reader_name("hostile"));
    let topic = node2.log.topic("in").unwrap();
    let left = node2.log.ended_partitions(&topic)[0].id();
    node2.log.set_retention(topic.id(), Some(0), None).unwrap();
    let retain = || node2.log.apply_retention(&sled_data::Wait::for_ever(&|_| u64::MAX));
    retain();
    assert!(store.partitions().contains(&left), "it is to be told what it has not read");
    let doubt = [b"hostile\0any", b"hostilf\0any"];
    node2.host.commit(|open| doubt.iter().for_each(|key| _ = open.put_state(DOUBTS_TREE, *key, Some(b"")))).unwrap();
    node2.host.remove("hostile").unwrap();
    assert!(store.cursors(&reader).unwrap().is_empty());
    assert_eq!(node2.log.state_scan(DOUBTS_TREE, b"", None, 10).unwrap().len(), 1, "of another plugin");
    retain();
    assert!(!store.partitions().contains(&left));
    // Deployed again it begins where a new one does.
    node2.publish(&["before"]);
    node2.deploy(MANIFEST).unwrap();
    node2.publish(&["after"]);
    node2.settle();
    assert_eq!(node2.values("out"), ["after"]);
    // A crash came before they were forgotten: they are at the next start.
    node2.host.stop();
    let id = topic.all_partitions()[0].id();
    node2
        .host
        .commit(|open| ["plugin:gone", "link:gone"].iter().for_each(|reader| open.move_cursor(reader, id, 1)))
        .unwrap();
    node2.log.close();
    let node3 = node(&backend, folder.path());
    assert_eq!(node3.log.store().readers().unwrap(), ["link:gone", "plugin:hostile"]);
}
