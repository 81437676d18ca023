//! Readings that may be lost: appended at QoS 0, and handed on at once.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use devices::native::{Datagram, decode};
use quinn::Connection;
use sled_data::OpenBatch;

use super::Native;
use super::append::{Appender, Remembered};
use crate::event_log::{OpenCommit, Topic};

/// Datagrams taken before others have their turn.
const DATAGRAMS_PER_TURN_MAX: usize = 64;

/// Events of one topic on their way to subscribers.
#[derive(Default)]
struct Live {
    topic: Option<Arc<Topic>>,
    events: OpenBatch,
}

impl Live {
    fn flush(&mut self, native: &Native) {
        if let Some(topic) = self.topic.take() {
            native.sessions.fan_out().publish_live(topic.name(), std::mem::take(&mut self.events));
        }
    }
}

/// Takes a datagram, and those that have come behind it.
pub(super) fn take(native: &Native, appender: &mut Appender, connection: &Connection, first: Bytes) {
    appender.set_time(native.log.clock().wall_ms());
    let mut lives: Vec<Live> = Vec::new();
    let mut open = None;
    let (mut taken, mut dropped) = (0, 0);
    let more = std::iter::from_fn(|| waiting(connection)).take(DATAGRAMS_PER_TURN_MAX - 1);
    for bytes in std::iter::once(first).chain(more) {
        match take_one(native, appender, &mut open, &bytes, &mut lives) {
            Some(()) => taken += 1,
            None => dropped += 1,
        }
    }
    // Not under the lock.
    drop(open);
    lives.iter_mut().for_each(|live| live.flush(native));
    native.stats.datagrams.fetch_add(taken, Ordering::Relaxed);
    native.stats.datagrams_dropped.fetch_add(dropped, Ordering::Relaxed);
}

/// A datagram that is there already.
fn waiting(connection: &Connection) -> Option<Bytes> {
    match pin!(connection.read_datagram()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(read) => read.ok(),
        Poll::Pending => None,
    }
}

/// `None` where it is dropped.
fn take_one<'log>(
    native: &'log Native,
    appender: &mut Appender,
    open: &mut Option<OpenCommit<'log>>,
    bytes: &[u8],
    lives: &mut Vec<Live>,
) -> Option<()> {
    let datagram = decode::<Datagram<'_>>(bytes).ok()?;
    let to = appender.place(&native.log, open, datagram.topic).ok()?;
    let guard = open.get_or_insert_with(|| native.log.lock());
    // Nobody waits for it to be taken: where too much is open, it is what gives way.
    if guard.over_bound() {
        return None;
    }
    let timestamp_ms = appender.append_datagram(guard, &to, &datagram).ok()?;
    let is_wanted = || !native.sessions.fan_out().wanted_by(datagram.topic).is_empty();
    if !to.route.topic.is_internal() && is_wanted() {
        add(lives, &to, appender, timestamp_ms, &datagram);
    }
    Some(())
}

fn add(lives: &mut Vec<Live>, to: &Remembered, appender: &Appender, timestamp_ms: i64, datagram: &Datagram<'_>) {
    let is_of = |live: &Live| live.topic.as_ref().is_some_and(|topic| topic.id() == to.route.topic.id());
    if !lives.last().is_some_and(is_of) {
        lives.push(Live { topic: Some(Arc::clone(&to.route.topic)), events: OpenBatch::new() });
    }
    if let Some(live) = lives.last_mut() {
        let key = Some(&*to.route.key);
        // Its size was checked when it was appended.
        let _ = live.events.push_with(timestamp_ms, key, Some(datagram.payload), &to.lossy_headers, appender.extra());
    }
}
