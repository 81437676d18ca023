//! The log of an origin on a terminal: where its partitions end, and how far behind those are who follow it.

use std::cmp::Reverse;
use std::time::Duration;

use super::super::table::{Table, bytes, printable};
use super::super::when;
use crate::admin::site::{FollowerView, GapView, LagView, OriginView, PartitionView};

/// Partitions that others are behind with, as far as they are shown without being asked for.
const LAGS_MAX: usize = 10;

/// All that the node knows of one log: of all its partitions, or of those that people care for.
pub(super) fn log(origin: &OriginView, all_partitions: bool) -> String {
    let mut text = headline(origin) + "\n";
    text += &followers(origin);
    text += &lags(origin, all_partitions);
    text += &partitions(origin, all_partitions);
    for line in gaps(origin) {
        text += &(line + "\n");
    }
    text
}

fn headline(origin: &OriginView) -> String {
    let of = origin.node.as_deref().unwrap_or("an earlier life, or a node that is gone");
    let whole = if origin.whole { "" } else { ", not whole yet" };
    let behind = origin.behind_commits.filter(|behind| *behind > 0);
    let behind = behind.map_or_else(String::new, |behind| format!(", {behind} commits behind its writer"));
    let taken = origin.read_by.as_ref().map_or_else(String::new, |node| format!(", worked on by {node}"));
    format!("origin {} ({of}): commit {}, {}{whole}{behind}{taken}", origin.origin, origin.commit, origin.following)
}

fn followers(origin: &OriginView) -> String {
    if origin.followers.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["  FOLLOWER", ">COMMIT", ">BEHIND", ">EVENTS", ">BYTES", ">TIME", "STREAM"]);
    for follower in &origin.followers {
        let stream = match (follower.told, follower.connected) {
            (true, true) => "open",
            (true, false) => "closed",
            (false, _) => "not heard of since this node was started",
        };
        let of = |value: String| if follower.told { value } else { "?".to_owned() };
        let least = if follower.at_least { "at least " } else { "" };
        table.row([
            format!("  {}", follower.node),
            of(follower.commit.to_string()),
            of(follower.lag_commits.to_string()),
            of(format!("{least}{}", follower.lag_events)),
            of(bytes(follower.lag_bytes)),
            of(time(follower.lag_ms)),
            stream.to_owned(),
        ]);
    }
    table.render()
}

/// Who is behind with which partition, those with the most events first.
fn lags(origin: &OriginView, all: bool) -> String {
    let is_shown = |lag: &&LagView| all || !lag.topic.starts_with('_');
    let of = |follower: &FollowerView| follower.partitions.iter().filter(is_shown).count();
    let count: usize = origin.followers.iter().map(of).sum();
    let mut found = Vec::with_capacity(count);
    for follower in &origin.followers {
        found.extend(follower.partitions.iter().filter(is_shown).map(|lag| (follower, lag)));
    }
    found.sort_by_key(|(_, lag)| Reverse(lag.lag_events));
    if found.is_empty() {
        return String::new();
    }
    let shown = if all { count } else { LAGS_MAX };
    let mut table = Table::new(&["  BEHIND", "TOPIC", ">PARTITION", ">NEXT", ">EVENTS", ">BYTES", ">TIME"]);
    for (follower, lag) in found.iter().take(shown) {
        table.row([
            format!("  {}", follower.node),
            lag.topic.clone(),
            lag.partition.to_string(),
            lag.next.to_string(),
            lag.lag_events.to_string(),
            bytes(lag.lag_bytes),
            time(lag.lag_ms),
        ]);
    }
    let mut text = table.render();
    if count > shown {
        text += &format!("  and {} more: --partitions shows all\n", count - shown);
    }
    text
}

fn partitions(origin: &OriginView, all: bool) -> String {
    let is_shown = |of: &&PartitionView| all || !of.topic.starts_with('_') && of.end > 0;
    let mut table = Table::new(&["  TOPIC", ">PARTITION", ">START", ">END", ">SYNCED", ">VISIBLE"]);
    for partition in origin.partitions.iter().filter(is_shown) {
        table.row([
            format!("  {}", partition.topic),
            partition.partition.to_string(),
            partition.start.to_string(),
            partition.end.to_string(),
            partition.synced_end.to_string(),
            partition.visible_end.to_string(),
        ]);
    }
    if table.is_empty() { String::new() } else { table.render() }
}

fn gaps(origin: &OriginView) -> Vec<String> {
    let line = |partition: &PartitionView, gap: &GapView| {
        let at = when::show_ms(gap.at_ms);
        let place = printable(&format!("{}/{}", partition.topic, partition.partition));
        format!("  gap in {place}: {}..{}: {} ({at})", gap.from, gap.to, printable(&gap.why))
    };
    let of = |partition: &PartitionView| partition.gaps.iter().map(|gap| line(partition, gap)).collect::<Vec<_>>();
    origin.partitions.iter().flat_map(of).collect()
}

fn time(ms: u64) -> String {
    when::show_span(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(partitions: u32) -> OriginView {
        let lag = |topic: &str, partition: u32| LagView {
            topic: topic.into(),
            partition,
            next: 5,
            lag_events: 40 + u64::from(partition),
            lag_bytes: 4_096,
            lag_ms: 61_000,
        };
        let end = |topic: &str, partition| PartitionView {
            topic: topic.into(),
            partition,
            start: 1,
            end: 45,
            synced_end: 44,
            visible_end: 43,
            gaps: Vec::new(),
        };
        let lags = (0..partitions).map(|index| lag("line", index)).chain([lag("_audit", 0)]).collect();
        let behind = FollowerView {
            node: "n2".into(),
            told: true,
            commit: 7,
            lag_commits: 3,
            lag_events: 80,
            lag_bytes: 8_192,
            lag_ms: 62_000,
            at_least: true,
            partitions: lags,
            ..FollowerView::default()
        };
        let silent = FollowerView { node: "n3".into(), ..FollowerView::default() };
        OriginView {
            origin: "aa".into(),
            node: Some("n1".into()),
            own: false,
            commit: 10,
            behind_commits: Some(2),
            following: "commits from n1".into(),
            whole: true,
            read_by: None,
            partitions: vec![end("line", 0), end("_audit", 0)],
            followers: vec![behind, silent],
        }
    }

    #[test]
    fn a_log_is_shown_as_people_read_it() {
        let expected = "\
origin aa (n1): commit 10, commits from n1, 2 commits behind its writer
  FOLLOWER  COMMIT  BEHIND       EVENTS    BYTES  TIME  STREAM
  n2             7       3  at least 80  8.0 KiB  1m2s  closed
  n3             ?       ?            ?        ?     ?  not heard of since this node was started
  BEHIND  TOPIC  PARTITION  NEXT  EVENTS    BYTES  TIME
  n2      line           0     5      40  4.0 KiB  1m1s
  TOPIC  PARTITION  START  END  SYNCED  VISIBLE
  line           0      1   45      44       43
";
        assert_eq!(log(&origin(1), false), expected);
    }

    #[test]
    fn many_partitions_are_shown_when_they_are_asked_for() {
        let origin = origin(14);
        let few = log(&origin, false);
        let lines = |text: &str| text.lines().filter(|line| line.starts_with("  n2  ") && line.contains("KiB")).count();
        assert_eq!(lines(&few), 1 + LAGS_MAX);
        assert!(few.contains("  and 4 more: --partitions shows all\n") && !few.contains("_audit"), "{few}");
        let all = log(&origin, true);
        assert_eq!(lines(&all), 1 + 15);
        assert!(all.matches("_audit").count() == 2 && !all.contains("more:"), "{all}");
    }
}
