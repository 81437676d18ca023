//! What outlives a connection of a kept session: its doorbell, its place in the fan-out, its filters.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::event_log::Wake;
use crate::subscriptions::{self, Subscriber};

/// What the MQTT topics between devices and the node itself begin with: commands, words of twins.
const OWN_PREFIX: &str = "edgeway/";

/// What outlives a connection of a kept session.
pub struct Seat {
    /// Rung when there is something for the session.
    pub wake: Arc<Wake>,
    /// Its place in the fan-out.
    pub subscriber: Arc<Subscriber>,
    pub(super) filters: Mutex<Filters>,
}

/// The filters of one session, bounded in number and bytes by who adds them.
#[derive(Debug, Default)]
pub(super) struct Filters {
    list: Vec<String>,
    /// The few of them that name topics of the node itself, apart: those who watch have many others.
    own: Vec<Arc<str>>,
    /// Of all filters together.
    bytes: usize,
}

/// What adding a filter came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    /// It is new.
    New,
    /// It was there.
    Known,
    /// There is no room for it.
    Full,
}

impl Filters {
    /// Those of a session that was stored, whatever the bounds are now.
    pub(super) fn of(list: Vec<String>) -> Self {
        let bytes = list.iter().map(String::len).sum();
        let own = list.iter().filter(|filter| filter.starts_with(OWN_PREFIX)).map(|filter| filter.as_str().into());
        Self { own: own.collect(), list, bytes }
    }

    pub(super) fn list(&self) -> &[String] {
        &self.list
    }

    /// Those that begin with `edgeway/`, by which the node finds who asks for what it has to say.
    pub(super) fn own(&self) -> &[Arc<str>] {
        &self.own
    }

    /// Adds one within the bounds of a session.
    pub(super) fn add(&mut self, filter: &str, bounds: &subscriptions::Config) -> Added {
        if self.list.iter().any(|known| known == filter) {
            return Added::Known;
        }
        let has_room = self.list.len() < bounds.filters_per_session_max
            && self.bytes + filter.len() <= bounds.filter_bytes_per_session_max;
        if !has_room {
            return Added::Full;
        }
        self.bytes += filter.len();
        self.list.push(filter.to_owned());
        if filter.starts_with(OWN_PREFIX) {
            self.own.push(filter.into());
        }
        Added::New
    }

    /// Removes one; whether it was there.
    pub(super) fn remove(&mut self, filter: &str) -> bool {
        let Some(at) = self.list.iter().position(|known| known == filter) else { return false };
        self.list.swap_remove(at);
        if let Some(at) = self.own.iter().position(|own| **own == *filter) {
            self.own.swap_remove(at);
        }
        self.bytes -= filter.len();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_bounded_in_number_and_in_bytes() {
        let bounds = subscriptions::Config {
            filters_per_session_max: 3,
            filter_bytes_per_session_max: 10,
            ..subscriptions::Config::default()
        };
        let mut filters = Filters::of(vec!["abcd".to_owned()]);
        assert_eq!(filters.add("1234567", &bounds), Added::Full);
        assert_eq!(filters.add("123456", &bounds), Added::New);
        assert_eq!(filters.add("123456", &bounds), Added::Known, "also where there is no room");
        assert!(filters.remove("123456"));
        assert!(!filters.remove("123456"));
        for (filter, added) in [("1", Added::New), ("2", Added::New), ("3", Added::Full)] {
            assert_eq!(filters.add(filter, &bounds), added, "{filter}");
        }
        assert_eq!(filters.list(), ["abcd", "1", "2"]);
    }

    #[test]
    fn those_for_the_node_itself_are_kept_apart() {
        let bounds = subscriptions::Config::default();
        let (twin, command) = ("edgeway/twin/d/#", "edgeway/command/d/#");
        let mut filters = Filters::of(vec!["a".to_owned(), twin.to_owned()]);
        assert_eq!(filters.add(command, &bounds), Added::New);
        assert_eq!(filters.add(command, &bounds), Added::Known);
        assert_eq!(filters.add("edgeway", &bounds), Added::New);
        assert_eq!(filters.own(), [twin.into(), command.into()]);
        assert!(filters.remove(twin) && filters.remove("a") && !filters.remove(twin));
        assert_eq!(filters.own(), [command.into()]);
    }
}
