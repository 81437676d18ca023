//! Who asks for the newest events of a topic, or how many there are, means those of all nodes.

use crate::harness::site::Site;
use crate::harness::wait;

#[test]
fn the_newest_events_are_those_of_all_nodes_and_each_says_whose_it_is() {
    let site = Site::of(2);
    site[0].cli(&["topic", "create", "r", "--partitions", "1"]).ok();
    let knows = |place: usize| site[place].cli(&["topic", "list"]).ok().out.contains("\nr ");
    wait::until_true("both have the topic", || knows(0) && knows(1));
    for number in 1..=5 {
        site[0].cli(&["publish", "r", "-v", &format!("a{number}")]).ok();
    }
    site[1].cli(&["publish", "r", "-v", "b1"]).ok();
    site.wait_level();
    for place in [0, 1] {
        let node = &site[place];
        let newest = node.cli(&["tail", "r", "-n", "3", "--json"]).ok().lines();
        let values: Vec<&str> = newest.iter().map(|line| line["value"].as_str().unwrap()).collect();
        assert_eq!(values, ["a4", "a5", "b1"], "at node {place}");
        let shown = node.cli(&["tail", "r", "-n", "2"]).ok().out;
        assert!(shown.contains("  n1:0/4  -  a5\n") && shown.contains("  n2:0/0  -  b1\n"), "{shown}");
        let all = node.cli(&["tail", "r", "--from", "start"]).ok().out;
        assert_eq!((all.matches("  n1:0/").count(), all.matches("  n2:0/").count()), (5, 1), "{all}");
        let list = node.cli(&["topic", "list", "--json"]).ok().lines();
        let events = list.iter().find(|topic| topic["name"] == "r").unwrap()["events"].clone();
        assert_eq!(events, 6, "at node {place}");
        let name = &site.members[place].name;
        let status = node.cli(&["status"]).ok().out;
        assert!(status.starts_with(&format!("node        {name} (ready)")), "{status}");
    }
}
