//! One connection in its turns: acknowledge, deliver, wait for anything, take what came.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use devices::native::{Close, Open, Reset, STREAMS_MAX};
use devices::sequence::{LANES, Lane};
use quinn::{Connection, RecvStream, SendStream};
use tokio::time::{Duration, Instant, sleep_until};

use super::append::{Appender, TryAgain};
use super::commands::Control;
use super::events::{Events, drop_offers};
use super::hello::Opened;
use super::lanes::OpenLane;
use super::way::{Gone, Way};
use super::{Native, Wrong, datagrams};
use crate::event_log::{Ticket, Wake};
use crate::sessions::{Entry, Order};

/// A wait with nothing to wait for is looked at again after this.
const IDLE_WAIT: Duration = Duration::from_secs(3_600);
/// How long a client that says goodbye may take for what it has still to send.
const LEAVE_WAIT: Duration = Duration::from_secs(5);
/// What is not a lane goes behind the lanes.
const EVENTS_PRIORITY: i32 = 0;
/// The code of a stream that another has taken the place of.
const REPLACED: u32 = 0;

const LANE: Wrong = Wrong::new(Close::OutOfPlace, "there is no lane of this number");
const SECOND_HELLO: Wrong = Wrong::new(Close::OutOfPlace, "a second Hello");
const SECOND_EVENTS: Wrong = Wrong::new(Close::OutOfPlace, "a second events stream");
const STREAMS: Wrong = Wrong::new(Close::TooMuch, "more streams than granted");
const NOT_READING: Wrong = Wrong::new(Close::NotReading, "what was sent is not read");
const UNFINISHED: Wrong = Wrong::new(Close::NoStream, "a frame was begun and not ended");

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The client said goodbye, or ended its control stream.
    Goodbye,
    /// The connection is gone.
    Lost,
    /// Another connection speaks for the device.
    TakenOver,
    /// People have removed the device, and only enrolled ones may be connected.
    Removed,
    /// The node stops.
    Stopping,
    /// The node leaves its site.
    Leaving,
    /// What the client did.
    Wrong(Wrong),
}

/// A connection with its session.
pub(super) struct Task {
    pub(super) native: Arc<Native>,
    pub(super) connection: Connection,
    pub(super) entry: Arc<Entry>,
    pub(super) control: Control,
    pub(super) lanes: [Option<Box<OpenLane>>; LANES as usize],
    pub(super) events: Option<Box<Events>>,
    /// Streams that have not said what they are for.
    unknown: Vec<Way>,
    appender: Appender,
    takes_commands: bool,
    /// The commit that will ring for this connection.
    rings: Option<Ticket>,
    /// The client goes: until when it is listened to.
    leaves_by: Option<Instant>,
}

/// What happened; several things may have.
#[derive(Debug, Default)]
struct Happened {
    /// Something was read, or a stream ended.
    read: bool,
    /// Something was written.
    written: bool,
    /// Flags of [`Wake`].
    rung: u32,
    /// The connection is gone.
    lost: bool,
    /// The client goes, and nothing of it is under way.
    is_done: bool,
}

impl Task {
    pub(super) fn new(native: Arc<Native>, connection: Connection, opened: Opened) -> Self {
        let Opened { control, entry, takes_commands } = opened;
        let appender = Appender::new(Arc::clone(&native.ingest), Arc::clone(&entry.client_id), entry.number);
        Self {
            native,
            connection,
            entry,
            control: Control::new(control),
            lanes: Default::default(),
            events: None,
            unknown: Vec::new(),
            appender,
            takes_commands,
            rings: None,
            leaves_by: None,
        }
    }

    /// Runs until the connection ends, however it does.
    pub(super) async fn run(mut self) {
        let end = self.turns().await.unwrap_or_else(End::Wrong);
        self.finish(end).await;
    }

    async fn turns(&mut self) -> Result<End, Wrong> {
        let connection = self.connection.clone();
        // What came with Hello in one read is there already.
        self.take_frames()?;
        loop {
            self.settle();
            if self.leaves_by.is_none() {
                self.control.send_offers(&self.entry.mailbox);
                self.deliver();
            }
            let until = self.deadline();
            let happened = tokio::select! {
                happened = poll_fn(|cx| self.poll(cx)) => happened,
                stream = connection.accept_bi() => match stream {
                    Ok(stream) => self.accept(stream)?,
                    Err(_) => return Ok(End::Lost),
                },
                datagram = connection.read_datagram() => match datagram {
                    Ok(first) => {
                        datagrams::take(&self.native, &mut self.appender, &connection, first);
                        Happened::default()
                    }
                    Err(_) => return Ok(End::Lost),
                },
                () = sleep_until(until) => self.look_at_the_clock()?,
            };
            if let Some(end) = self.take(&happened)? {
                return Ok(end);
            }
            // What is always there to be done must not keep other connections from their turn.
            if self.events.as_mut().is_some_and(|events| events.take_more()) {
                tokio::task::yield_now().await;
            } else {
                tokio::task::consume_budget().await;
            }
        }
    }

    fn take(&mut self, happened: &Happened) -> Result<Option<End>, Wrong> {
        if happened.lost {
            return Ok(Some(End::Lost));
        }
        if happened.rung & Wake::MAIL != 0 {
            match self.entry.mailbox.take_order() {
                Some(Order::TakenOver { .. }) => return Ok(Some(End::TakenOver)),
                Some(Order::Removed) => return Ok(Some(End::Removed)),
                Some(Order::Stop) => return Ok(Some(End::Stopping)),
                Some(Order::Leave) => return Ok(Some(End::Leaving)),
                None => {}
            }
        }
        if happened.rung & Wake::SETTLED != 0 {
            self.settle();
        }
        // What was written makes room for answers to what was read before.
        if happened.read || happened.written || happened.rung & Wake::SETTLED != 0 {
            self.take_frames()?;
        }
        Ok(happened.is_done.then_some(End::Goodbye))
    }

    /// Everything that can happen to the streams: a ring, room for bytes out, bytes in.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Happened> {
        let mut happened = Happened::default();
        self.entry.seat.wake.register(cx.waker());
        happened.rung = self.entry.seat.wake.take();
        self.poll_control(cx, &mut happened);
        for at in 0..self.lanes.len() {
            let Some(lane) = &mut self.lanes[at] else { continue };
            let polled = lane.poll(cx).and_then(|read| Ok((read, lane.way.poll_write(cx)?)));
            if note(polled, &mut happened) || lane.way.ended && lane.is_idle() {
                // All is said: dropping it ends the node's side in order.
                self.lanes[at] = None;
            }
        }
        self.poll_events(cx, &mut happened);
        // One that has ended without a first frame is forgotten.
        self.unknown.retain_mut(|way| !way.ended && !note(way.poll_read(cx).map(|read| (read, false)), &mut happened));
        let nothing = happened.rung == 0 && !(happened.read || happened.written || happened.lost);
        if !nothing {
            return Poll::Ready(happened);
        }
        if self.leaves_by.is_some() && self.lanes.iter().flatten().all(|lane| lane.is_idle()) {
            return Poll::Ready(Happened { is_done: true, ..happened });
        }
        Poll::Pending
    }

    fn poll_control(&mut self, cx: &mut Context<'_>, happened: &mut Happened) {
        let way = &mut self.control.way;
        let written = way.poll_write(cx);
        let read = if way.is_readable() { way.poll_read(cx) } else { Ok(false) };
        if note(read.and_then(|read| Ok((read, written?))), happened) {
            // Without its control stream nobody is there.
            way.ended = true;
            happened.lost = true;
        }
    }

    fn poll_events(&mut self, cx: &mut Context<'_>, happened: &mut Happened) {
        let Some(events) = &mut self.events else { return };
        let way = &mut events.way;
        let written = way.poll_write(cx);
        let read = if way.is_readable() { way.poll_read(cx) } else { Ok(false) };
        let is_gone = note(read.and_then(|read| Ok((read, written?))), happened);
        if is_gone || way.ended && !way.has_frame() {
            events.close(&self.native, &self.entry);
            self.events = None;
        }
    }

    fn accept(&mut self, stream: (SendStream, RecvStream)) -> Result<Happened, Wrong> {
        if self.unknown.len() >= STREAMS_MAX as usize {
            return Err(STREAMS);
        }
        self.unknown.push(Way::new(stream, EVENTS_PRIORITY));
        Ok(Happened::default())
    }

    /// Takes every whole frame that was read: what streams are for, what the client says, lanes in their urgency.
    fn take_frames(&mut self) -> Result<(), Wrong> {
        self.take_first_frames()?;
        if self.control.take_frames()? && self.leaves_by.is_none() {
            self.leaves_by = Some(Instant::now() + LEAVE_WAIT);
        }
        self.take_publishes()?;
        match &mut self.events {
            Some(events) => events.take_frames(&self.native, &self.entry),
            None => Ok(()),
        }
    }

    fn take_publishes(&mut self) -> Result<(), Wrong> {
        if self.lanes.iter().all(Option::is_none) {
            return Ok(());
        }
        let native = Arc::clone(&self.native);
        self.appender.set_time(native.log.clock().wall_ms());
        let mut open = None;
        let mut taken = Ok(());
        for slot in &mut self.lanes {
            let Some(lane) = slot else { continue };
            let (appender, wake) = (&mut self.appender, &self.entry.seat.wake);
            match lane.take_frames(&native.log, &mut open, appender, wake, &mut self.rings) {
                Ok(Ok(())) => {}
                Ok(Err(TryAgain)) => reset(slot, &native),
                // What was appended stays; the others' acknowledgements are lost with the connection.
                Err(wrong) => taken = taken.and(Err(wrong)),
            }
        }
        taken
    }

    fn take_first_frames(&mut self) -> Result<(), Wrong> {
        let mut at = 0;
        while let Some(way) = self.unknown.get(at) {
            let Some((open, taken)) = way.frame::<Open<'_>>()? else {
                at += 1;
                continue;
            };
            let purpose = match open {
                Open::Hello(_) => return Err(SECOND_HELLO),
                Open::Lane(number) => Some(Lane::new(number).ok_or(LANE)?),
                Open::Events => None,
            };
            let mut way = self.unknown.swap_remove(at);
            way.input.consume(taken);
            match purpose {
                Some(lane) => self.open_lane(way, lane),
                None if self.events.is_some() => return Err(SECOND_EVENTS),
                None => {
                    let commands_of = self.takes_commands.then_some(&*self.entry.client_id);
                    self.events = Some(Box::new(Events::new(way, commands_of)));
                }
            }
        }
        Ok(())
    }

    fn open_lane(&mut self, way: Way, lane: Lane) {
        // The most urgent goes first, behind the control stream.
        way.set_priority(i32::from(LANES - lane.number()));
        let opened = OpenLane::new(way, lane, &self.native, &self.entry.client_id);
        if let Some(replaced) = self.lanes[lane.index()].replace(Box::new(opened)) {
            replaced.way.reset(REPLACED);
        }
    }

    /// Writes the acknowledgements of what is settled; a lane whose commit was refused must be opened anew.
    pub(super) fn settle(&mut self) {
        for slot in &mut self.lanes {
            if slot.as_mut().is_some_and(|lane| lane.settle(&self.native.log).is_err()) {
                reset(slot, &self.native);
            }
        }
    }

    fn deliver(&mut self) {
        match &mut self.events {
            Some(events) => events.send_offers(&self.native, &self.entry.mailbox),
            None => drop_offers(&self.entry.mailbox),
        }
        let more = self.events.as_mut().is_some_and(|events| events.deliver(&self.native, &self.entry));
        if more {
            self.entry.seat.wake.ring(Wake::DELIVER);
        }
    }

    fn ways(&self) -> impl Iterator<Item = &Way> {
        let lanes = self.lanes.iter().flatten().map(|lane| &lane.way);
        let events = self.events.as_ref().map(|events| &events.way);
        std::iter::once(&self.control.way).chain(lanes).chain(events).chain(&self.unknown)
    }

    fn deadline(&self) -> Instant {
        let most = self.native.config.not_reading();
        let patience = self.ways().flat_map(|way| [way.stuck_at(most), way.unfinished_at(most)]).flatten();
        patience.chain(self.leaves_by).min().unwrap_or_else(|| Instant::now() + IDLE_WAIT)
    }

    fn look_at_the_clock(&mut self) -> Result<Happened, Wrong> {
        let (now, most) = (Instant::now(), self.native.config.not_reading());
        if self.ways().filter_map(|way| way.stuck_at(most)).any(|at| at <= now) {
            return Err(NOT_READING);
        }
        if self.ways().filter_map(|way| way.unfinished_at(most)).any(|at| at <= now) {
            return Err(UNFINISHED);
        }
        Ok(Happened { is_done: self.leaves_by.is_some_and(|at| at <= now), ..Happened::default() })
    }
}

/// Notes what a stream said; whether it is gone.
fn note(polled: Result<(bool, bool), Gone>, happened: &mut Happened) -> bool {
    match polled {
        Ok((read, written)) => {
            happened.read |= read;
            happened.written |= written;
            false
        }
        Err(gone) => {
            happened.lost |= gone == Gone::Connection;
            happened.read = true;
            true
        }
    }
}

/// Has a client open a lane anew: nothing behind its last acknowledgement is stored. What was acknowledged and does not
/// arrive any more, the new stream says.
fn reset(slot: &mut Option<Box<OpenLane>>, native: &Native) {
    if let Some(lane) = slot.take() {
        native.stats.lanes_reset.fetch_add(1, Ordering::Relaxed);
        native.ingest.stats().refused_store.fetch_add(1, Ordering::Relaxed);
        lane.way.reset(Reset::TryAgain as u32);
    }
}
