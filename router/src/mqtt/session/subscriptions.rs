//! A session's subscriptions: what SUBSCRIBE and UNSUBSCRIBE do to them, and which of them an event matches.

use super::kept::{GRANTED_QOS_MAX, Subscription};
use super::limits::Limits;
use crate::mqtt::codec::{Properties, PropertyId, Qos, Reason, RetainHandling, Subscribe, SubscribeFilter, Version};
use crate::mqtt::filter_tree::{FILTER_LEVELS_MAX, FilterTree};
use crate::mqtt::topic;
use std::collections::BTreeMap;

/// The subscriptions of one session.
#[derive(Debug, Default)]
pub struct Subscriptions {
    by_filter: BTreeMap<String, Subscription>,
    tree: FilterTree<Subscription>,
    /// Bytes of all filters together.
    bytes: usize,
}

/// How an event is delivered to a session.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The highest QoS of the matching subscriptions, to be lowered to the message's own ([MQTT-3.8.4-8]).
    pub qos: Qos,
    /// Whether a matching subscription wants the retain flag as it was published.
    pub retain_as_published: bool,
}

/// A subscription that is to be answered with retained messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedWanted {
    /// Which topics.
    pub filter: String,
    /// At which QoS at most.
    pub qos: Qos,
    /// The identifier to send with them.
    pub id: Option<u32>,
}

/// What a SUBSCRIBE came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribed {
    /// SUBACK's codes in the form of the connection's version, one for each filter.
    pub codes: Vec<u8>,
    /// Retained messages to send after the SUBACK.
    pub retained: Vec<RetainedWanted>,
    /// Filters that are new or changed, for whoever indexes sessions.
    pub granted: Vec<String>,
}

impl Subscriptions {
    pub(super) fn of(kept: &[(String, Subscription)]) -> Self {
        let mut subscriptions = Self::default();
        for (filter, subscription) in kept {
            if subscriptions.tree.insert(filter, *subscription).is_ok()
                && subscriptions.by_filter.insert(filter.clone(), *subscription).is_none()
            {
                subscriptions.bytes += filter.len();
            }
        }
        subscriptions
    }

    pub(super) fn kept(&self) -> Vec<(String, Subscription)> {
        self.by_filter.iter().map(|(filter, subscription)| (filter.clone(), *subscription)).collect()
    }

    /// All filters in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Subscription)> {
        self.by_filter.iter().map(|(filter, subscription)| (filter.as_str(), subscription))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_filter.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_filter.is_empty()
    }

    /// How an event is delivered, `None` if no subscription matches. `own` says that this client published it, which
    /// subscriptions with no local leave out ([MQTT-3.8.3-3]). `ids` is cleared and gets the identifiers of all
    /// matching subscriptions, for one delivery carries them all ([MQTT-3.3.4-4]).
    #[inline]
    pub fn delivery(&self, name: &str, own: bool, ids: &mut Vec<u32>) -> Option<Delivery> {
        ids.clear();
        let mut delivery: Option<Delivery> = None;
        self.tree.matching(name, |subscription| {
            let Subscription { options, id } = subscription;
            if own && options.no_local {
                return;
            }
            ids.extend(id);
            let found = delivery.get_or_insert(Delivery { qos: Qos::AtMostOnce, retain_as_published: false });
            found.qos = found.qos.max(options.qos);
            found.retain_as_published |= options.retain_as_published;
        });
        delivery
    }

    /// Whether an event would be delivered to this session at all.
    pub fn wants(&self, name: &str) -> bool {
        let mut wanted = false;
        self.tree.matching(name, |_| wanted = true);
        wanted
    }

    pub(super) fn subscribe(
        &mut self,
        packet: &Subscribe<'_>,
        version: Version,
        limits: &Limits,
        may: &dyn Fn(&str) -> bool,
    ) -> Subscribed {
        let id = subscription_id(&packet.properties);
        let mut done = Subscribed::default();
        for asked in packet.filters.iter() {
            let code = match self.refusal(&asked, version, limits, may) {
                Some(_) if version == Version::V311 => 0x80,
                Some(reason) => reason.code(),
                None => self.grant(&asked, id, &mut done).bits(),
            };
            done.codes.push(code);
        }
        done
    }

    fn refusal(
        &self,
        asked: &SubscribeFilter<'_>,
        version: Version,
        limits: &Limits,
        may: &dyn Fn(&str) -> bool,
    ) -> Option<Reason> {
        let filter = asked.filter;
        if version == Version::V5 && topic::shared(filter).is_some() {
            Some(Reason::SharedSubscriptionsNotSupported)
        } else if filter.split('/').count() > FILTER_LEVELS_MAX {
            Some(Reason::TopicFilterInvalid)
        } else if !may(filter) {
            Some(Reason::NotAuthorized)
        } else if !self.has_room(filter, limits) && !self.by_filter.contains_key(filter) {
            Some(Reason::QuotaExceeded)
        } else {
            None
        }
    }

    fn has_room(&self, filter: &str, limits: &Limits) -> bool {
        self.by_filter.len() < limits.subscriptions_max && self.bytes + filter.len() <= limits.subscription_bytes_max
    }

    /// Replaces a subscription to the same filter ([MQTT-3.8.4-3]).
    fn grant(&mut self, asked: &SubscribeFilter<'_>, id: Option<u32>, done: &mut Subscribed) -> Qos {
        let SubscribeFilter { filter, mut options } = *asked;
        options.qos = options.qos.min(GRANTED_QOS_MAX);
        let subscription = Subscription { options, id };
        let before = self.by_filter.insert(filter.to_owned(), subscription);
        if before.is_none() {
            self.bytes += filter.len();
        }
        // Its depth was checked, so that the tree takes it.
        let inserted = self.tree.insert(filter, subscription);
        debug_assert!(inserted.is_ok());
        if before != Some(subscription) {
            done.granted.push(filter.to_owned());
        }
        let wanted = match options.retain_handling {
            RetainHandling::Always => true,
            RetainHandling::IfNew => before.is_none(),
            RetainHandling::Never => false,
        };
        if wanted {
            done.retained.push(RetainedWanted { filter: filter.to_owned(), qos: options.qos, id });
        }
        options.qos
    }

    /// Removes a filter; says whether it was there.
    pub(super) fn unsubscribe(&mut self, filter: &str) -> bool {
        self.tree.remove(filter);
        let was_there = self.by_filter.remove(filter).is_some();
        if was_there {
            self.bytes -= filter.len();
        }
        was_there
    }
}

fn subscription_id(properties: &Properties<'_>) -> Option<u32> {
    properties.number(PropertyId::SubscriptionId)
}
