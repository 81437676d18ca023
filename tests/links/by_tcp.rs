//! A link whose way lets no UDP through: it stands by TCP, joins by it, and goes back to UDP when that comes through.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use devices::fleet::relay::{LineConfig, Relay};
use tokio::runtime::Runtime;

use super::{Load, check_level, check_records, link, stored, view};
use crate::harness::hose::Hose;
use crate::harness::site::{ROUTING, Site, free_port};
use crate::harness::{Node, wait};

/// Another test may have the TCP port of the number that is free for UDP.
const PORTS_TRIED: usize = 16;

/// A plant, a headquarters, and the ways between them at one port: UDP, which is cut, and TCP.
struct Ways {
    plant: Node,
    hq: Site,
    udp: Relay,
    tcp: Hose,
    _runtime: Runtime,
}

fn ways(settings: &str) -> Ways {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let port = free_port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let one = |_| {
        let udp = runtime.block_on(Relay::start(address, LineConfig::default(), 7)).unwrap();
        let tcp = Hose::start(udp.address(), address).ok()?;
        Some((udp, tcp))
    };
    let (udp, tcp) = (0..PORTS_TRIED).find_map(one).expect("a port that nobody has for UDP, nor for TCP");
    udp.cut(true);
    let hq = Site::found_at(ROUTING, port, &udp.address().to_string());
    let plant = Node::start_with(&format!("{ROUTING}[[link]]\nname = \"hq\"\n{settings}"));
    link(&plant, &hq[0], "plant");
    Ways { plant, hq, udp, tcp, _runtime: runtime }
}

fn stands_by(node: &Node, name: &str, way: &str) -> bool {
    let view = view(node, name);
    view["state"] == "connected" && view["transport"] == way
}

#[test]
fn a_link_goes_by_tcp_while_udp_is_blocked_and_back() {
    let mut ways = ways("");
    wait::until_true("it stands by TCP", || stands_by(&ways.plant, "hq", "tcp"));
    let load = Load::start(&ways.plant, "first");
    load.wait(1_000);
    // The way is cut under load, upstream dies, and the edge does.
    let again = |ways: &Ways, before: u64| {
        wait::until_true("it stands again", || ways.tcp.connections() > before && stands_by(&ways.plant, "hq", "tcp"));
    };
    let so_far = ways.tcp.connections();
    ways.tcp.cut();
    again(&ways, so_far);
    load.wait(300);
    ways.hq.kill(&[0]);
    load.wait(300);
    let so_far = ways.tcp.connections();
    ways.hq.run(&[0]);
    again(&ways, so_far);
    load.wait(300);
    ways.plant.kill();
    let mut records = load.stop();
    ways.plant.run();
    check_records(check_level(&ways.plant, &ways.hq[0], ("plain", "plant%2Fplain")), &records);
    assert!(stands_by(&ways.hq[0], "plant", "tcp"), "{}", view(&ways.hq[0], "plant"));
    let shown = ways.plant.cli(&["link", "show", "hq"]).ok().out;
    assert!(shown.contains(", by TCP"), "{shown}");
    let metrics = crate::harness::http::get(ways.plant.http, "/metrics", None).unwrap().body;
    assert!(metrics.contains("edgeway_link_by_tcp{link=\"hq\"} 1"), "{metrics}");
    // UDP is let through again, under load.
    let load = Load::start(&ways.plant, "second");
    load.wait(300);
    ways.udp.cut(false);
    wait::until_true("it goes by UDP", || stands_by(&ways.plant, "hq", "quic"));
    load.wait(300);
    records.extend(load.stop());
    check_records(check_level(&ways.plant, &ways.hq[0], ("plain", "plant%2Fplain")), &records);
    assert!(stands_by(&ways.hq[0], "plant", "quic"), "{}", view(&ways.hq[0], "plant"));
}

#[test]
fn a_slow_tcp_that_stalls_is_no_loss_and_holds_up_no_alarm() {
    let ways = ways(
        "transport = \"tcp\"\nrate_bytes_max = 12500\ncompress = \"off\"\n[[link.class]]\ntopics = [\"vital\"]\n\
         priority = \"high\"\n",
    );
    let (plant, hq) = (&ways.plant, &ways.hq[0]);
    plant.cli(&["topic", "create", "vital"]).ok();
    plant.cli(&["link", "pause", "hq"]).ok();
    let load = Load::start(plant, "backlog");
    load.wait(6_000);
    let records = load.stop();
    // A line of 100 kbit/s.
    ways.tcp.set_bytes_per_s(12_500);
    plant.cli(&["link", "resume", "hq"]).ok();
    wait::until_true("the backlog flows", || view(plant, "hq")["events"].as_u64().unwrap() > 0);
    let mut took = Vec::new();
    for count in 1..=8 {
        let began = Instant::now();
        plant.cli(&["publish", "vital", "--key", "pump", "--value", "hot"]).ok();
        if count == 4 {
            ways.tcp.stand_still(true);
            std::thread::sleep(Duration::from_secs(5));
            ways.tcp.stand_still(false);
        }
        wait::until_true("the alarm is there", || stored(hq, "plant%2Fvital") == count);
        took.push(began.elapsed());
    }
    took.remove(3);
    took.remove(0);
    took.sort();
    let shown = view(plant, "hq");
    println!("alarms {took:?}; {}", shown["traffic"]);
    assert!(took[took.len() / 2] < Duration::from_secs(3), "{took:?}");
    assert_eq!((shown["traffic"]["lost"].as_u64(), shown["transport"].as_str()), (Some(0), Some("tcp")), "{shown}");
    assert!(shown["classes"][1]["lag_events"].as_u64().unwrap() > 0, "the backlog was still on its way: {shown}");
    ways.tcp.set_bytes_per_s(0);
    plant.cli(&["link", "pause", "hq"]).ok();
    let lines = {
        plant.cli(&["link", "resume", "hq"]).ok();
        wait::until_true("it stands", || stands_by(plant, "hq", "tcp"));
        check_level(plant, hq, ("plain", "plant%2Fplain"))
    };
    check_records(lines, &records);
}
