//! Guards on a node: deployed, restarted, removed, and reading what a plugin keeps.

use std::time::Instant;

use super::*;
use crate::plugin_host::guard::{Kept, StoredState, test_guard as guard};
use crate::security::{Asked, Judgement};

const NAME: &str = "hostile-guard";

impl Node {
    fn deploy_guard(&self, manifest: &str) -> Result<Deployed, DeployError> {
        self.host.deploy(&guard::hostile(), Manifest::parse(manifest).unwrap())
    }

    fn judge(&self, payload: &str) -> Judgement {
        self.host.guard().judge(&Asked {
            id: devices::command::CommandId::v7(1, [2; 10]),
            device: "valve-1".into(),
            name: "open-valve".to_owned(),
            payload: payload.as_bytes().to_vec(),
            issued_by: "cli".to_owned(),
            urgent: false,
        })
    }

    fn guard_status(&self) -> PluginStatus {
        self.host.list().into_iter().find(|status| status.name == NAME).unwrap()
    }
}

fn denied(reason: &str) -> Judgement {
    Judgement::Deny { guard: NAME.to_owned(), reason: reason.to_owned() }
}

#[test]
fn a_deployed_guard_is_on_duty_before_the_first_command_after_a_restart() {
    let (backend, folder) = backend();
    let node1 = node(&backend, folder.path());
    let before = node1.host.guard();
    assert!(!before.is_on_duty());
    // Time enough to be loaded from the cache while the first question waits.
    let patient = guard::MANIFEST.replace("call_ms = 250", "call_ms = 1000");
    assert!(!node1.deploy_guard(&patient).unwrap().redeployed);
    assert!(before.is_on_duty(), "what was given out before knows of it");
    assert_eq!(node1.judge("D"), denied("told so"));
    node1.host.stop();
    assert_eq!(node1.judge("D"), denied("told so"), "to the end");
    node1.log.close();
    backend.power_cut(0);

    let node2 = node(&backend, folder.path());
    assert!(node2.host.guard().is_on_duty());
    assert_eq!(node2.judge("D"), denied("told so"), "the first question");
    let status = node2.guard_status();
    assert_eq!((status.kind, status.state), (Kind::CommandGuard, RunState::Running));
    assert_eq!(status.guard.unwrap().denied, 1);
    node2.host.remove(NAME).unwrap();
    assert_eq!(node2.judge("D"), Judgement::Allow);
    assert!(matches!(node2.host.remove(NAME), Err(RemoveError::Unknown(_))));
    node2.log.close();

    let node3 = node(&backend, folder.path());
    assert!(!node3.host.guard().is_on_duty() && node3.host.list().is_empty());
}

#[test]
fn a_guard_whose_file_was_lost_keeps_commands_back_until_it_is_deployed_again() {
    let (backend, folder) = backend();
    let node1 = node(&backend, folder.path());
    node1.deploy_guard(guard::MANIFEST).unwrap();
    node1.log.close();
    for file in std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()) {
        if file.is_file() {
            std::fs::remove_file(file).unwrap();
        }
    }
    let node2 = node(&backend, folder.path());
    let Judgement::Failed { reason, .. } = node2.judge("") else { panic!("it has no code") };
    assert!(reason.contains("cannot be loaded"), "{reason}");
    assert!(matches!(node2.guard_status().state, RunState::Broken(_)));
    assert!(node2.deploy_guard(guard::MANIFEST).unwrap().redeployed);
    assert_eq!(node2.judge(""), Judgement::Allow);
}

#[test]
fn a_guard_reads_the_committed_state_of_a_plugin_in_every_partition() {
    let (backend, folder) = backend();
    let node = node(&backend, folder.path());
    node.deploy(MANIFEST).unwrap();
    node.deploy_guard(guard::MANIFEST).unwrap();
    assert_eq!(node.judge("SS9"), Judgement::Allow, "nothing is kept under `S9`");
    node.publish(&["S1", "S9", "S99"]);
    let begin = Instant::now();
    while node.judge("SS99") == Judgement::Allow {
        assert!(begin.elapsed() < Duration::from_secs(20));
    }
    assert_eq!(node.judge("SS9"), denied("S9"));
    let state = |partition, value: &[u8]| {
        let key = crate::plugin_host::registry::state_key("hostile", partition, b"S9");
        node.host.commit(|open| assert!(open.put_state(STATE_TREE, &key, Some(value)))).unwrap();
    };
    state(700, b"other");
    state(7, b"between");
    let values = |key: &[u8]| StoredState(Arc::clone(&node.log)).values("hostile", key).unwrap();
    assert_eq!(values(b"S9"), [&b"S9"[..], b"between", b"other"]);
    assert_eq!(values(b"S"), Vec::<Vec<u8>>::new());
    state(8, &vec![0; 32 << 10]);
    node.host.remove("hostile").unwrap();
    assert_eq!(values(b"S9"), Vec::<Vec<u8>>::new());
    assert_eq!(node.judge("SS9"), Judgement::Allow);
}

#[test]
fn a_new_version_takes_the_old_ones_place_and_its_counters() {
    let (backend, folder) = backend();
    let node = node(&backend, folder.path());
    node.deploy_guard(guard::MANIFEST).unwrap();
    node.judge("D");
    assert!(node.deploy_guard(&guard::MANIFEST.replace("open*", "close")).unwrap().redeployed);
    assert_eq!(node.judge("D"), Judgement::Allow, "it judges other commands now");
    assert_eq!(node.guard_status().guard.unwrap().denied, 1);
    assert_eq!(node.host.guard_counters().len(), 1);
    assert!(node.host.counters().is_empty());
}

#[test]
fn what_cannot_guard_is_refused_with_the_reason() {
    let (backend, folder) = backend();
    let node = node(&backend, folder.path());
    node.deploy(MANIFEST).unwrap();
    let no_grant = guard::MANIFEST.replace("read_state = ['hostile']", "");
    let taken = guard::MANIFEST.replace(NAME, "hostile");
    let settings = format!("{}\n[config]\nany = 1", guard::MANIFEST);
    let cases = [
        (hostile(), guard::MANIFEST, "does not fit the world `edgeway:plugin/command-guard@1.1.0`"),
        (guard::hostile(), MANIFEST, "does not fit the world `edgeway:plugin/plugin@1.1.0`"),
        (guard::hostile(), &no_grant, "a grant is missing: it reads the state of other plugins"),
        (guard::hostile(), &taken, "`hostile` is the name of a plugin of another kind"),
        (guard::hostile(), &settings, "the plugin does not start: no settings wanted"),
    ];
    for (wasm, manifest, want) in cases {
        let error = node.host.deploy(&wasm, Manifest::parse(manifest).unwrap()).unwrap_err();
        assert!(error.is_refusal() && error.to_string().contains(want), "{want}: {error}");
    }
    assert_eq!(node.host.list().len(), 1);
    assert!(!node.host.guard().is_on_duty());
}

#[test]
fn a_manifest_that_the_store_does_not_take_is_refused() {
    let (backend, folder) = backend();
    let node = node(&backend, folder.path());
    let mut manifest = Manifest::parse(guard::MANIFEST).unwrap();
    manifest.devices = vec!["x".repeat(61 << 10)];
    let error = node.host.keep(b"", &manifest).unwrap_err().to_string();
    assert!(error.contains("too large to be stored"), "{error}");
}
