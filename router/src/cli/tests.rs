//! Commands as they are typed, against a real node on ports of its own.

use std::path::Path;

use clap::CommandFactory;

use super::*;
use crate::config::Config;
use crate::node::Node;

/// What a command printed, and how it ended.
struct Done {
    printed: String,
    exit: Exit,
    said: String,
}

/// Does what is typed after `edgeway`, in the shell's simplest words.
fn typed(line: &str) -> Done {
    let words = line.split(' ').filter(|word| !word.is_empty());
    let cli = Cli::try_parse_from(["edgeway"].into_iter().chain(words));
    let cli = match cli {
        Ok(cli) => cli,
        Err(error) => return Done { printed: String::new(), exit: Exit::Usage, said: error.to_string() },
    };
    let mut printed = Vec::new();
    let mut out = Out::new(&mut printed, cli.json);
    let done = dispatch(cli.verb, &mut out).and_then(|()| out.flush());
    let (exit, said) = match done {
        Ok(()) | Err(Failure::PipeClosed) => (Exit::Done, String::new()),
        Err(Failure::Shown(exit)) => (exit, String::new()),
        Err(Failure::Told { exit, what, .. }) => (exit, what),
    };
    out.flush().unwrap();
    drop(out);
    Done { printed: String::from_utf8(printed).unwrap(), exit, said }
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_exit_code_is_in_the_help() {
    for exit in Exit::ALL {
        let line = format!("  {}  ", exit as u8);
        assert!(EXIT_HELP.contains(&line), "{exit:?}");
    }
}

#[test]
fn every_shell_has_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let cli = Cli::try_parse_from(["edgeway", "completions", shell]).unwrap();
        let mut printed = Vec::new();
        let mut out = Out::new(&mut printed, false);
        dispatch(cli.verb, &mut out).unwrap();
        drop(out);
        assert!(String::from_utf8(printed).unwrap().contains("plugin"), "{shell}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_does_what_is_typed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut config = Config::default();
    config.node.data.clone_from(&data);
    config.listen.mqtt.set_port(0);
    config.listen.http.set_port(0);
    let node = Node::start(config).await.unwrap();
    let calls = tokio::task::spawn_blocking(move || {
        check(&data);
        data
    });
    let data = calls.await.unwrap();
    node.stop().await;
    let done = typed(&format!("status --data {}", data.display()));
    assert_eq!(done.exit, Exit::Unreachable, "{}", done.said);
    let done = typed(&format!("store verify --offline --data {}", data.display()));
    assert_eq!(done.exit, Exit::Done, "{}", done.said);
}

/// (what is typed, exit code, what is printed or said)
const TYPED: [(&str, Exit, &str); 59] = [
    ("status", Exit::Done, "edgeway (ready)"),
    ("topic list", Exit::Done, "mqtt"),
    (
        "topic create t --partitions 2 --compression zstd --retention 7d",
        Exit::Done,
        "topic t is made, with 2 partitions",
    ),
    ("topic create t", Exit::Failed, "topic t exists already"),
    ("topic show t", Exit::Done, "retention    7d"),
    ("topic show u", Exit::NotFound, "there is no topic u"),
    ("topic list --json", Exit::Done, r#""name":"t""#),
    ("publish t --key k --value one -H a=b", Exit::Done, "1 event is stored in topic t"),
    ("publish t --key k --value two --json", Exit::Done, r#"{"topic":"t","events":1}"#),
    ("publish u --value x", Exit::NotFound, "there is no topic u"),
    ("tail t -n 1", Exit::Done, "  k  two"),
    ("tail t -n 1 --from start", Exit::Done, "  k  one"),
    ("topic list", Exit::Done, "of the node's own; `edgeway topic list --all`"),
    ("tail t --from -1h --json", Exit::Done, r#""key":"k","device":null,"headers":{"a":"b"},"value":"one"}"#),
    ("tail t --from 2030-01-01T00:00:00Z", Exit::Done, ""),
    ("get t k", Exit::Done, "two\n"),
    ("get t k --json", Exit::Done, r#"{"topic":"t","#),
    ("get t x", Exit::NotFound, "no event with key"),
    ("publish t --key k --delete", Exit::Done, "1 event is stored"),
    ("get t k", Exit::NotFound, "was deleted"),
    ("command send d stop", Exit::NotFound, "was never seen"),
    ("command send d stop --unknown --deliver-by 200ms --wait", Exit::CommandExpired, "state           expired"),
    ("command list --device d --json", Exit::Done, r#""issued_by":"cli""#),
    ("device list", Exit::Done, "no device has been seen or added yet"),
    ("device add d --tag pump --set pressure=5", Exit::Done, "device d is added"),
    ("device list --where pressure>4", Exit::Done, "pump"),
    ("device list --where pressure>", Exit::Usage, "--where is wrong at position 10: expected a value"),
    ("command send stop --where pressure>4 --deliver-by 100ms --wait", Exit::CommandExpired, "expired 1"),
    ("command send stop --where pressure>4 --rate 0", Exit::Usage, "1 at least"),
    ("command send stop --where pressure>4 --rate 4000000000", Exit::Usage, "the rate is between 1 and"),
    ("command send stop --where pressure>4 --dry-run", Exit::Done, "1 device: d; nothing is sent"),
    ("command send d stop --timeout 2d", Exit::Usage, "it is between 1ms and 1d"),
    ("command show 01893f6e-7a2b-7c3d-8e4f-0123456789ab", Exit::NotFound, "there is no command"),
    ("command watch 01893f6e-7a2b-7c3d-8e4f-0123456789ab", Exit::NotFound, "there is no command"),
    ("command watch nonsense", Exit::Usage, "expected an id"),
    ("command send stop --where pressure>9", Exit::NotFound, "no known device is taken"),
    ("command send stop --where pressure>", Exit::Usage, "--where is wrong at position 10"),
    ("command send d stop --where pressure>4", Exit::Usage, "exclude each other"),
    ("command send stop", Exit::Usage, "\"stop\" is one word"),
    ("job list", Exit::Done, "done"),
    ("job list --json", Exit::Done, r#""where":"pressure>4""#),
    ("job show 01893f6e-7a2b-7c3d-8e4f-0123456789ab", Exit::NotFound, "there is no job"),
    ("job pause 01893f6e-7a2b-7c3d-8e4f-0123456789ab", Exit::NotFound, "there is no job"),
    ("job watch nonsense", Exit::Usage, "expected an id"),
    ("plugin list", Exit::Done, "no plugins"),
    ("plugin grant p --emit t", Exit::NotFound, "there is no plugin `p`"),
    ("plugin grant p", Exit::Usage, "nothing is said"),
    ("plugin revoke p --state --twins set", Exit::NotFound, "there is no plugin `p`"),
    ("route list", Exit::Done, "no routing rules"),
    ("route set r --pattern a/{x}/# --topic t --key {x}", Exit::Done, "a/{x}/# goes to topic t"),
    ("route set q --pattern a/# --topic u --order 5", Exit::Done, "routing rule q is set"),
    ("route test a/b/c", Exit::Done, "goes to topic u, key a/b/c"),
    ("route set r --pattern a/#/b --topic t", Exit::Usage, "a level is a name"),
    ("route delete q", Exit::Done, "routing rule q is deleted"),
    ("route test a/b/c", Exit::Done, "goes to topic t, key b"),
    ("route delete q", Exit::NotFound, "there is no routing rule q"),
    ("node policy pause", Exit::Done, "pauses until it is back"),
    ("store verify --json", Exit::Done, r#"{"clean":true,"#),
    ("topic delete t", Exit::Done, "topic t is deleted"),
];

fn check(data: &Path) {
    for (line, exit, expected) in TYPED {
        let done = typed(&format!("{line} --data {}", data.display()));
        assert_eq!(done.exit, exit, "{line}: {} {}", done.printed, done.said);
        let heard = if done.said.is_empty() { &done.printed } else { &done.said };
        assert!(heard.contains(expected), "{line}: {heard}");
    }
}
