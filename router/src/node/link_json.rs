//! Links as the API and the metrics show them.

use crate::admin::links::{
    ClassJson, GapJson, LaterJson, LinkJson, PluginAnswersJson, PluginDownJson, SummaryJson, TopicDownJson,
    TopicsDownJson, TrafficJson,
};
use crate::links::plugins::{PluginDown, Tally};
use crate::links::{ClassView, Direction, LinkView, Priority, TopicDown, TopicsDown};

/// By priority; only the edge knows it.
fn classes(view: &LinkView) -> Vec<ClassJson> {
    if view.direction == Direction::Down {
        return Vec::new();
    }
    let class = |(priority, class): (Priority, ClassView)| ClassJson {
        priority: priority.as_str().to_owned(),
        events: class.brought.events,
        bytes: class.brought.bytes,
        record_bytes: class.brought.record_bytes,
        sent_bytes: class.brought.sent_bytes,
        dropped_events: class.brought.dropped_events,
        dropped_bytes: class.brought.dropped_bytes,
        lag_events: class.lag.events,
        lag_bytes: class.lag.bytes,
        lag_ms: class.lag.ms,
    };
    Priority::ALL.into_iter().zip(view.classes).map(class).collect()
}

/// A plugin that goes down.
pub(super) fn plugin(of: PluginDown) -> PluginDownJson {
    PluginDownJson { name: of.name, sha256: of.sha256, state: of.state.as_str().to_owned(), said: of.said }
}

fn answers(of: Tally) -> PluginAnswersJson {
    let Tally { deployed, removed, refused, later, bytes } = of;
    PluginAnswersJson { deployed, removed, refused, later, bytes }
}

fn topics(of: TopicsDown) -> TopicsDownJson {
    let topic =
        |topic: TopicDown| TopicDownJson { name: topic.name, events: topic.events, waiting_events: topic.waiting };
    TopicsDownJson {
        gateway: of.gateway,
        state: of.state.as_str().to_owned(),
        reason: of.reason,
        allowed: of.allowed,
        events: of.events,
        bytes: of.bytes,
        lag_events: of.lag.events,
        lag_bytes: of.lag.bytes,
        lag_ms: of.lag.ms,
        topics: of.topics.into_iter().map(topic).collect(),
        refusals: of.refusals,
    }
}

/// A link, with the topics that go as what plugins make of them.
pub(super) fn json(view: LinkView, summaries: Vec<SummaryJson>) -> LinkJson {
    let gap = |gap: crate::links::Gap| GapJson {
        topic: gap.topic,
        origin: gap.partition.origin.to_string(),
        partition: gap.partition.index,
        from: gap.from,
        to: gap.to,
        why: gap.why.to_owned(),
        at_ms: gap.at_ms,
    };
    let later = |later: crate::links::Later| LaterJson {
        topic: later.topic,
        origin: later.partition.origin.to_string(),
        partition: later.partition.index,
        from: later.from,
        to: later.to,
    };
    let (drain_s, ratio, classes) = (view.drain_s(), view.brought().ratio(), classes(&view));
    LinkJson {
        name: view.name,
        direction: match view.direction {
            Direction::Up => "up".to_owned(),
            Direction::Down => "down".to_owned(),
        },
        state: view.state.as_str().to_owned(),
        reason: view.reason,
        address: view.address,
        transport: view.way.map(|way| way.as_str().to_owned()).unwrap_or_default(),
        certificate_until_s: view.certificate_until_s,
        last_contact_ms: view.last_contact_ms,
        lag_events: view.lag.events,
        lag_bytes: view.lag.bytes,
        lag_ms: view.lag.ms,
        events: view.events,
        bytes: view.bytes,
        again_events: view.again,
        kept_bytes: view.kept_bytes,
        kept_bytes_max: None,
        shed_bytes: view.shed_bytes,
        events_per_s: view.rate.events,
        bytes_per_s: view.rate.bytes,
        sent_bytes_per_s: view.rate.sent_bytes,
        drain_s,
        ratio,
        classes,
        traffic: view.traffic.map(|traffic| TrafficJson {
            rtt_ms: traffic.rtt.as_secs_f64() * 1e3,
            sent: traffic.sent,
            lost: traffic.lost,
            sent_bytes: traffic.sent_bytes,
            received_bytes: traffic.received_bytes,
        }),
        connections: view.connections,
        refusals: view.refusals,
        down: view.down,
        topics: view.topics.into_iter().map(topics).collect(),
        plugins: view.plugins.into_iter().map(plugin).collect(),
        plugin_answers: answers(view.tally),
        gaps: view.gaps.into_iter().map(gap).collect(),
        later: view.later.into_iter().map(later).collect(),
        later_events: view.later_events,
        summaries,
    }
}
