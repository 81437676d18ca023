//! Carries one connection from its greeting to its end: heartbeats both ways, and the streams of the other side.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::Shared;
use super::close::Close;
use super::heartbeat::Heartbeat;
use super::link::Link;
use super::liveness::{Liveness, Pace};
use super::stats::count;
use super::streams::{Places, Server};
use super::table::Failure;

/// Carries a connection that stands, and tells the table when it has ended.
pub(super) async fn carry(shared: Arc<Shared>, link: Arc<Link>) {
    tracing::info!(node = %link.node, from = %link.connection.address(), "a node of the site is connected");
    let why = beat(&shared, &link).await;
    let now = shared.clock.monotonic();
    tracing::info!(node = %link.node, why = %why.text, "a node of the site is not connected any more");
    let notice = shared.table.lock().down(&link, &why, now);
    shared.tell(notice);
    shared.wake.notify_one();
}

async fn beat(shared: &Arc<Shared>, link: &Arc<Link>) -> Failure {
    let pace = Pace { heartbeat: shared.config.heartbeat(), lost_after: shared.config.lost_after() };
    let mut liveness = Liveness::new(pace, shared.clock.monotonic());
    let mut ticks = interval(pace.heartbeat);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The node with the smaller id begins; the other one answers at once, so that what says that a heartbeat came goes in the packet of the
    // answer, and needs none of its own. Where nothing comes, it beats by itself a little later.
    let answers = link.node < shared.own.node;
    let mut said = None;
    let mut streams = JoinSet::new();
    let server = Server {
        link: Arc::clone(link),
        places: Arc::new(Places::new()),
        room: Arc::clone(&shared.room),
        serve: Arc::clone(&shared.serve),
        stats: Arc::clone(&shared.stats),
    };
    loop {
        let wait = liveness.next_look().saturating_sub(shared.clock.monotonic());
        tokio::select! {
            ended = link.connection.ended() => return ended.into(),
            datagram = link.connection.receive_datagram() => match datagram {
                Ok(bytes) => if hear(shared, link, &bytes) {
                    let now = shared.clock.monotonic();
                    liveness.hear(now);
                    if answers && is_answer_due(said, now, pace.heartbeat) {
                        said = Some(now);
                        say(shared, link);
                        ticks.reset_after(pace.heartbeat * 5 / 4);
                    }
                },
                Err(ended) => return ended.into(),
            },
            stream = link.connection.accept() => match stream {
                Ok((send, receive)) => { streams.spawn(server.clone().stream(send, receive)); }
                Err(error) => return error.into(),
            },
            Some(_) = streams.join_next(), if !streams.is_empty() => continue,
            _ = ticks.tick() => {
                said = Some(shared.clock.monotonic());
                say(shared, link);
            }
            () = sleep(wait) => {}
        }
        if liveness.is_lost(shared.clock.monotonic(), link.connection.traffic().received) {
            count(&shared.stats.lost);
            let text = format!("nothing was heard for {} ms", pace.lost_after.as_millis());
            link.close(Close::Silent, &text);
            return Failure::from(text);
        }
    }
}

/// Whether a heartbeat is to be answered with one: not where this node has just said one, and however often others come.
fn is_answer_due(said: Option<Duration>, now: Duration, heartbeat: Duration) -> bool {
    said.is_none_or(|said| now.saturating_sub(said) >= heartbeat / 2)
}

fn say(shared: &Shared, link: &Link) {
    let pulse = shared.serve.pulse();
    let heartbeat = Heartbeat {
        incarnation: shared.own.incarnation,
        synced: pulse.synced,
        quorum: pulse.quorum,
        hybrid: pulse.hybrid,
        wall_ms: shared.clock.wall_ms(),
    };
    link.connection.send_datagram(heartbeat.encode());
    count(&shared.stats.beats_sent);
}

/// Whether these bytes are a heartbeat of the process that greeted.
fn hear(shared: &Shared, link: &Link, bytes: &[u8]) -> bool {
    let heartbeat = Heartbeat::decode(bytes).filter(|heartbeat| heartbeat.incarnation == link.hello.incarnation);
    let Some(heartbeat) = heartbeat else {
        count(&shared.stats.beats_refused);
        return false;
    };
    count(&shared.stats.beats_heard);
    let now = shared.moment();
    link.hear(heartbeat, now);
    let notice = shared.table.lock().heard(link, shared.config.heartbeat(), now.monotonic);
    shared.tell(notice);
    shared.serve.heard(link.node, &heartbeat);
    true
}
