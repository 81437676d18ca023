//! The simulated fleet against a real node and a bad link: what it sent, and what the log holds of it.

use std::time::Duration;

use devices::client;
use devices::fleet::relay::{LineConfig, Relay};
use devices::fleet::{Config, Differences, Fleet, Found, Ledger, compare};

use crate::harness::{Node, wait};

const LISTEN: &str = "[listen]\nquic = '127.0.0.1:0'\n";

fn written(node: &Node, name: &str) -> String {
    std::fs::read_to_string(node.data().join(name)).unwrap().trim().to_owned()
}

/// The fleet's accounts against the node's log.
fn differences(node: &Node, ledgers: &[(String, Ledger)]) -> Differences {
    let tail = node.cli(&["tail", "mqtt", "--from", "start", "--json"]).ok();
    let found: Vec<Found> = tail.out.lines().filter_map(Found::from_line).collect();
    let accounts = ledgers.iter().map(|(device, ledger)| (device.as_str(), ledger));
    compare(accounts, found.iter().map(|found| (found.device.as_str(), found.seq)))
}

#[test]
fn an_hour_without_a_link_a_killed_node_and_a_fifth_of_all_datagrams_lost() {
    const DEVICES: usize = 10;
    const HOUR: u64 = 3_600;
    let seed = 20_261_126;
    println!("seed {seed}");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _entered = runtime.enter();
    let mut node = Node::start_with(LISTEN);
    let line = LineConfig::default().losing(0.2);
    let address = written(&node, "quic.addr").parse().unwrap();
    let relay = runtime.block_on(Relay::start(address, line, seed)).unwrap();
    let url = format!("quic://{}?pin={}", relay.address(), written(&node, "quic.fingerprint"));
    let mut client = client::Config::from_url(&url, "truck").unwrap();
    client.backoff_max = Duration::from_millis(500);
    // A reading a second; an hour of them passes in a quarter of a minute.
    let mut config = Config::of(client, DEVICES);
    (config.prefix, config.seed, config.speed) = ("truck".to_owned(), seed, 240.0);
    (config.interval, config.skew) = (Duration::from_secs(1), Duration::from_secs(86_400));
    let fleet = Fleet::start(config).unwrap();

    wait::until_true("readings come through", || fleet.totals().acked > 500);
    relay.cut(true);
    let before = fleet.totals().sent;
    node.kill();
    wait::until_true("an hour has passed", || fleet.totals().sent >= before + DEVICES as u64 * HOUR);
    let acked = fleet.totals().acked;
    node.run();
    relay.set_node(written(&node, "quic.addr").parse().unwrap());
    relay.cut(false);
    wait::until_true("they are back", || fleet.totals().acked > acked);
    node.kill();
    node.run();
    relay.set_node(written(&node, "quic.addr").parse().unwrap());
    let ledgers = runtime.block_on(fleet.stop(Duration::from_secs(120)));

    let differences = differences(&node, &ledgers);
    assert!(differences.is_clean(), "seed {seed}: {}", differences.told());
    let sent: u64 = ledgers.iter().map(|(_, ledger)| ledger.sent_count()).sum();
    let acked: u64 = ledgers.iter().map(|(_, ledger)| ledger.acked_count()).sum();
    assert_eq!((acked, differences.found, differences.repeated), (sent, sent, 0), "seed {seed}: each once");
    assert!(relay.counts().1 > 0, "datagrams were lost");
}

#[test]
fn the_command_line_fleet_says_what_the_log_holds() {
    let node = Node::start_with(LISTEN);
    let trouble = ["--churn", "2s", "--storm", "1s", "--outage", "500ms", "--outage-after", "1500ms", "--skew", "10h"];
    let cases: [(&str, &[&str]); 3] =
        [("mqtt", &[]), ("quic", &["--quic"]), ("lossy", &["--quic", "--loss", "5", "--delay", "5ms"])];
    for (prefix, more) in cases {
        let mut words = vec!["fleet", "--devices", "20", "--interval", "20ms", "--for", "3s", "--prefix", prefix];
        words.extend(trouble.iter().chain(more).copied());
        words.push("--json");
        let ran = node.cli(&words).ok();
        let told = ran.json();
        let count = |name: &str| told[name].as_u64().unwrap_or(u64::MAX);
        assert!(count("sent") > 500 && count("breaks") > 20, "{prefix}: {told}");
        assert_eq!((count("acknowledged"), count("found")), (count("sent"), count("sent")), "{prefix}: {told}");
        for name in ["missing", "doubled", "out_of_order", "unknown", "refused_but_found"] {
            assert_eq!(count(name), 0, "{prefix}: {told}");
        }
    }
    let human = node.cli(&["fleet", "--devices", "2", "--for", "200ms", "--interval", "50ms"]).ok();
    assert!(human.out.contains("nothing is missing, doubled or out of order"), "{}", human.out);
    let nowhere = node.cli(&["fleet", "--to", "quic://127.0.0.1"]);
    assert_eq!(nowhere.code, 2, "{}", nowhere.err);
    let tcp = node.cli(&["fleet", "--loss", "5"]);
    assert_eq!(tcp.code, 2, "{}", tcp.err);
}
