//! A headquarters asks a site for a range that its link does not carry: what comes is the site's log, and it delays nobody.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use devices::fleet::relay::LineConfig;
use serde_json::Value;

use crate::harness::{Node, wait};
use crate::links::{Load, relayed, sorted, stored, view};

/// Only alarms go by themselves, and before all else; all may be asked for.
const ALARMS_ALONE: &str = "include = [\"vital\"]\ndetail = [\"*\"]\n\
                            [[link.class]]\ntopics = [\"vital\"]\npriority = \"high\"\n";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Lines by their place in the log; what the topic is called is left out.
fn placed(mut lines: Vec<Value>) -> Vec<Value> {
    lines.retain(|line| line.get("offset").is_some());
    lines.iter_mut().for_each(|line| line["topic"] = Value::Null);
    lines.sort_by_key(|line| {
        let number = |name: &str| line[name].as_u64().unwrap();
        (line["origin"].as_str().unwrap().to_owned(), number("partition"), number("offset"))
    });
    lines
}

fn parsed(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))).collect()
}

/// A tail that runs, after its first line.
struct Running {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
    lines: Vec<String>,
}

impl Running {
    fn start(node: &Node, args: &[&str]) -> Running {
        let mut command = node.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        out.read_line(&mut first).unwrap();
        Running { child, out, lines: vec![first] }
    }

    fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// All lines to its end, what it said besides, and its exit code.
    fn end(mut self) -> (Vec<Value>, String, i32) {
        self.lines.extend(self.out.lines().map(Result::unwrap));
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let code = self.child.wait().unwrap().code().unwrap();
        (parsed(&self.lines), said, code)
    }
}

#[test]
fn a_range_is_the_sites_log_and_an_alarm_beside_it_is_not_late() {
    let runtime = runtime();
    // 200 kbit/s, 100 ms there and back.
    let line = LineConfig::modem(200_000, Duration::from_millis(50));
    let settings = format!("rate_bytes_max = 25000\ncompress = \"off\"\n{ALARMS_ALONE}");
    let (plant, hq, relay) = relayed(&runtime, line, &settings);
    plant.cli(&["topic", "create", "vital"]).ok();
    let load = Load::start(&plant, "range");
    load.wait(12_000);
    load.stop();
    plant.cli(&["publish", "vital", "--key", "pump", "--value", "first"]).ok();
    wait::until_true("the first alarm is there", || stored(&hq[0], "plant%2Fvital") == 1);
    let all = sorted(&plant, "plain");
    let (from, to) = (all[all.len() / 4]["timestamp_ms"].as_i64().unwrap(), i64::MAX);
    let to = all.iter().map(|line| line["timestamp_ms"].as_i64().unwrap()).max().unwrap().min(to) - 5;
    // As the issue has it: no more than a site and an age.
    let mut asked = Running::start(&hq[0], &["tail", "--site", "plant", "plain", "--from", "-1h", "--json"]);
    let mut took = Vec::new();
    for count in 2..=6 {
        let began = Instant::now();
        plant.cli(&["publish", "vital", "--key", "pump", "--value", "hot"]).ok();
        wait::until_true("the alarm is there", || stored(&hq[0], "plant%2Fvital") == count);
        took.push(began.elapsed());
    }
    assert!(asked.is_running(), "the range was still coming");
    took.sort();
    println!("alarms {took:?}");
    assert!(took[took.len() / 2] < Duration::from_secs(2), "{took:?}");
    relay.set(LineConfig::default());
    let (lines, said, code) = asked.end();
    assert_eq!(code, 0, "{said}");
    assert_eq!(placed(lines), placed(all), "{said}");
    // A part of it, by the API: as the site's own tail has it.
    let range = format!("from=@{from}&to=@{to}");
    let theirs = plant.get(&format!("topics/plain/events?{range}")).ok().lines();
    let ours = hq[0].get(&format!("links/plant/topics/plain/events?{range}")).ok().lines();
    assert!(!theirs.is_empty());
    assert_eq!(placed(ours), placed(theirs));
    assert_eq!(stored(&hq[0], "plant%2Fplain"), 0, "nothing is kept here");
    assert_eq!(view(&plant, "hq")["connections"], 1);
}

#[test]
fn a_range_that_broke_off_is_gone_on_with() {
    let runtime = runtime();
    let settings = format!("rate_bytes_max = 40000\n{ALARMS_ALONE}");
    let (plant, hq, relay) = relayed(&runtime, LineConfig::modem(400_000, Duration::from_millis(20)), &settings);
    let load = Load::start(&plant, "broken");
    load.wait(30_000);
    load.stop();
    let all = sorted(&plant, "plain");
    let asked = Running::start(&hq[0], &["tail", "--site", "plant", "plain", "--detail", "--json"]);
    plant.cli(&["link", "pause", "hq"]).ok();
    let (mut lines, said, code) = asked.end();
    assert_eq!(code, 3, "{said}");
    let cut = lines.pop().unwrap();
    assert!(cut["cut"]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{cut}");
    let had = lines.len();
    assert!(had > 0 && had < all.len(), "it broke off in the middle: {had} of {}", all.len());
    // While the link is cut the site cannot be asked; what it has brought is shown where no more was asked for.
    let refused = hq[0].cli(&["tail", "--site", "plant", "plain", "--detail"]);
    assert!(refused.code != 0 && refused.err.contains("no gateway of plant is connected"), "{refused:?}");
    let carried = hq[0].cli(&["tail", "--site", "plant", "vital", "--from", "-1h"]);
    assert!(carried.err.contains("what its link has brought here"), "{carried:?}");
    plant.cli(&["link", "resume", "hq"]).ok();
    relay.set(LineConfig::default());
    // What it said to go on with, as it stands.
    let hint = said.split("edgeway tail ").nth(1).unwrap_or_else(|| panic!("{said}"));
    let hint = hint.split(['"', '\n']).next().unwrap();
    let again: Vec<&str> = std::iter::once("tail").chain(hint.split_whitespace()).chain(["--json"]).collect();
    let rest = wait::until("the site is there again", || {
        let rest = hq[0].cli(&again);
        (rest.code == 0).then_some(rest)
    });
    lines.extend(rest.lines());
    assert_eq!(lines.len(), all.len(), "none twice, none missing");
    assert_eq!(placed(lines), placed(all));
}

#[test]
fn what_a_site_does_not_give_stays_there() {
    let runtime = runtime();
    // Nothing is said of detail: what goes may be asked for.
    let (plant, hq, _relay) = relayed(&runtime, LineConfig::default(), "exclude = [\"vital\"]\n");
    for topic in ["vital", "plain"] {
        plant.cli(&["topic", "create", topic]).ok();
        plant.cli(&["publish", topic, "--key", "k", "--value", topic]).ok();
    }
    wait::until_true("the link stands", || stored(&hq[0], "plant%2Fplain") == 1);
    let asked = |topic: &str| hq[0].cli(&["tail", topic, "--site", "plant", "--from", "-1h", "--detail"]);
    let given = asked("plain");
    assert!(given.code == 0 && given.out.contains("plain"), "{given:?}");
    let refused = asked("vital");
    assert!(refused.code == 7 && refused.err.contains("detail") && refused.out.is_empty(), "{refused:?}");
    let unknown = asked("unknown");
    assert!(unknown.code == 4 && unknown.err.contains("no topic unknown"), "{unknown:?}");
    let nobody = hq[0].cli(&["tail", "plain", "--site", "elsewhere", "--detail"]);
    assert!(nobody.code == 4 && nobody.err.contains("elsewhere"), "{nobody:?}");
    // Both ways of reading, side by side.
    let carried = hq[0].cli(&["tail", "plain", "--site", "plant", "--from", "-1h", "--carried"]).ok();
    assert_eq!(carried.out, given.out);
}
