//! Upstream: a topic that a link brings is made here, under the link's name and with this site's retention; or why it is not.

use std::sync::Arc;

use sled_data::TopicInfo;

use super::receiver::storing::FULL_WAIT;
use super::receiver::{Ended, Receiver, blocking};
use super::wire::{OURS_TOPIC, Refused};
use crate::event_log::{SITE_SEPARATOR, Topic, TopicError};

/// Topics that one link may bring.
const TOPICS_MAX: usize = 500;

impl Receiver {
    /// Makes the topic here, under the link's name; why it is not made.
    pub(super) async fn adopt(&self, info: TopicInfo) -> Result<Result<Arc<Topic>, Refused>, Ended> {
        let (log, id) = (Arc::clone(&self.log), info.id);
        // How long events are kept is said here, not at the edge.
        let defaults = log.topic_defaults();
        let mut config = info.config.clone();
        (config.retention_ms, config.retention_bytes) = (defaults.retention_ms, defaults.retention_bytes);
        let name = format!("{}{SITE_SEPARATOR}{}", self.name, info.name);
        if self.is_over_bound(&info) {
            let text = format!("topic {name} is not made here: a link brings at most {TOPICS_MAX} topics");
            return Ok(Err(Refused::new(0, id.0, "too-many", text)));
        }
        let named = TopicInfo { id, name: name.clone(), config };
        let made = loop {
            let (log, named) = (Arc::clone(&log), named.clone());
            match blocking(move || log.adopt_linked_topic(named)).await? {
                // As events wait for room: a refusal would stand for as long as the link does.
                Err(TopicError::Store(sled_data::TopicError::Full)) => tokio::time::sleep(FULL_WAIT).await,
                made => break made,
            }
        };
        let text = match made {
            Ok(topic) => {
                if topic.name() != name {
                    // As where a summary is to go under the name of what was carried before.
                    let text =
                        format!("topic {name} is called {} here: that name was another one's before", topic.name());
                    self.page.lock().refuse(&text);
                }
                return Ok(Ok(topic));
            }
            Err(error @ TopicError::Store(sled_data::TopicError::Failed(_))) => {
                return Err(Ended::Store(error.to_string()));
            }
            Err(TopicError::Exists(other)) if other.contains(SITE_SEPARATOR) => {
                let text = format!("topic {other} comes by another link: this one does not write to it");
                return Ok(Err(Refused::new(0, id.0, "other-link", text)));
            }
            // It comes round with an origin that is not taken: that is told once, of the origin.
            Err(TopicError::Exists(own)) => {
                return Ok(Err(Refused::new(0, id.0, OURS_TOPIC, format!("topic {own} is this site's own"))));
            }
            Err(TopicError::TooMany(count)) => {
                let text = format!(
                    "topic {name} is not made here: there are {count} topics of other sites, as many as there may be"
                );
                return Ok(Err(Refused::new(0, id.0, "too-many", text)));
            }
            Err(error) => format!("topic {name} is not made here: {error}"),
        };
        Ok(Err(Refused::new(0, id.0, "topic", text)))
    }

    /// Whether a topic would be one too many of this link.
    fn is_over_bound(&self, info: &TopicInfo) -> bool {
        if self.log.topic_by_id(info.id).is_some() {
            return false;
        }
        let of_link = format!("{}{SITE_SEPARATOR}", self.name);
        self.log.topics().iter().filter(|topic| topic.name().starts_with(&of_link)).count() >= TOPICS_MAX
    }
}

/// A topic that has another number of partitions than it had when it was brought first: how many it has never changes.
pub(super) fn counts(topic: &Topic, partitions: u32) -> Refused {
    let (name, here) = (topic.name(), topic.partitions());
    let text = format!(
        "topic {name} has {here} partitions here, and {partitions} where it comes from: nothing of it is taken"
    );
    Refused::new(0, topic.id().0, "topic", text)
}
