//! Whose an event is, told to people where a topic has events of more than one origin.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::admin::wire::TopicView;
use crate::cli::api::{Api, encoded};

/// The origins of a topic.
#[derive(Debug, Default)]
pub(super) struct Origins {
    /// What people call the nodes that live them now.
    names: BTreeMap<String, String>,
    are_many: bool,
    /// That of the first event.
    first: Option<String>,
}

impl Origins {
    /// As the node knows them now; nothing is known of them where it does not say.
    pub(super) fn of(api: &Api, topic: &str, only: Option<u32>) -> Self {
        api.get(&format!("topics/{}", encoded(topic)))
            .map_or_else(|_| Self::default(), |view: TopicView| Self::in_view(&view, only))
    }

    fn in_view(view: &TopicView, only: Option<u32>) -> Self {
        let of_partition = view.extents.iter().filter(|extent| only.is_none_or(|only| only == extent.partition));
        let mut kept: Vec<&str> =
            of_partition.filter(|extent| extent.start < extent.end).map(|extent| extent.origin.as_str()).collect();
        kept.sort_unstable();
        kept.dedup();
        let named = view.extents.iter().filter_map(|extent| Some((extent.origin.clone(), extent.node.clone()?)));
        Self { names: named.collect(), are_many: kept.len() > 1, first: None }
    }

    /// Whose a line is, where that is to be told: the node's name, or the origin's id.
    pub(super) fn whose(&mut self, line: &Value) -> Option<String> {
        let origin = line["origin"].as_str()?;
        self.are_many |= self.first.get_or_insert_with(|| origin.to_owned()).as_str() != origin;
        self.are_many.then(|| self.names.get(origin).cloned().unwrap_or_else(|| origin.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admin::wire::Extent;

    fn view(extents: &[(&str, Option<&str>, u32, u64)]) -> TopicView {
        let extent = |(origin, node, partition, end): &(&str, Option<&str>, u32, u64)| Extent {
            origin: (*origin).to_owned(),
            node: node.map(str::to_owned),
            partition: *partition,
            start: 0,
            end: *end,
        };
        TopicView {
            name: "t".into(),
            id: "1".into(),
            internal: false,
            partitions: 2,
            compression: Default::default(),
            durability: Default::default(),
            retention_ms: None,
            retention_bytes: None,
            events: 0,
            extents: extents.iter().map(extent).collect(),
        }
    }

    #[test]
    fn whose_an_event_is_is_told_where_there_are_several() {
        let both = view(&[("a1", Some("n1"), 0, 3), ("b2", None, 0, 2), ("b2", None, 1, 0)]);
        let event = |origin: &str| json!({"origin": origin, "partition": 0, "offset": 1});
        let mut many = Origins::in_view(&both, None);
        assert_eq!((many.whose(&event("a1")), many.whose(&event("b2"))), (Some("n1".into()), Some("b2".into())));
        let mut one = Origins::in_view(&both, Some(1));
        assert_eq!((one.whose(&event("a1")), one.whose(&event("a1"))), (None, None));
        assert_eq!(one.whose(&event("b2")), Some("b2".into()), "another one has come meanwhile");
        assert_eq!(one.whose(&event("a1")), Some("n1".into()));
        assert_eq!(Origins::default().whose(&json!({"missing": {}})), None);
    }
}
