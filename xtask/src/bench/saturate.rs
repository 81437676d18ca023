//! The load at full speed: eight publishers and at most one subscriber, all on
//! one thread, since the generator shares the machine with the broker.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::bench::error::{BenchError, io};
use crate::bench::payload::Payload;
use crate::bench::publisher::Publisher;
use crate::bench::subscriber::Subscriber;

/// Publishing connections.
pub const CONNECTIONS: usize = 8;
/// Unacknowledged messages on each of them, where the group says nothing else.
pub const IN_FLIGHT: u64 = 128;
/// How far QoS 0 publishing may run ahead of the subscriber, in messages.
const AHEAD_MAX: u64 = 16 * 1024;
/// Room in a window, as a part of it, before it is filled again: fewer, larger writes.
const REFILL_PART: u64 = 4;
/// The same at QoS 0, in messages.
const REFILL: u64 = IN_FLIGHT / REFILL_PART;
/// Between two looks at the sockets. A broker that acknowledges one by one would
/// otherwise wake the generator for every four bytes, at the cost of both.
const PAUSE: Duration = Duration::from_micros(50);
/// How long nothing may happen.
const STALL_MAX: Duration = Duration::from_secs(20);
/// How long one wait for the sockets may take.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// After this long without a delivery, QoS 0 messages count as lost.
const LOST_AFTER: Duration = Duration::from_secs(1);

/// What is sent, and who listens.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub qos: u8,
    pub subscriber: bool,
    pub payload: Payload,
}

/// Positions in the load's run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub sent: u64,
    pub acked: u64,
    pub delivered: u64,
    /// QoS 0 messages that did not reach the subscriber.
    pub lost: u64,
}

/// A load that is connected and can be run for a while, again and again.
#[derive(Debug)]
pub struct Saturation {
    poll: Poll,
    events: Events,
    load: Load,
    in_flight: u64,
    publishers: Vec<Publisher>,
    subscriber: Option<Subscriber>,
    scratch: Vec<u8>,
    lost: u64,
    progressed: Instant,
}

const SUBSCRIBER: Token = Token(CONNECTIONS);

impl Saturation {
    pub fn open(address: SocketAddr, load: Load) -> Result<Saturation, BenchError> {
        Saturation::open_with(address, load, IN_FLIGHT)
    }

    /// The same with another number of unacknowledged messages on each connection; a ring of frames holds four times as many at most.
    pub fn open_with(address: SocketAddr, load: Load, in_flight: u64) -> Result<Saturation, BenchError> {
        let poll = Poll::new().map_err(io("making a poll"))?;
        let registry = poll.registry();
        let both = Interest::READABLE | Interest::WRITABLE;
        let mut subscriber = None;
        if load.subscriber {
            let mut opened = Subscriber::open(address, "sensors/#", load.qos)?;
            let registered = registry.register(&mut opened.stream, SUBSCRIBER, both);
            registered.map_err(io("polling a socket"))?;
            subscriber = Some(opened);
        }
        let mut publishers = Vec::new();
        for number in 0..CONNECTIONS {
            let mut opened = Publisher::open(address, number, load.qos, load.payload)?;
            let registered = registry.register(&mut opened.stream, Token(number), both);
            registered.map_err(io("polling a socket"))?;
            publishers.push(opened);
        }
        Ok(Saturation {
            poll,
            events: Events::with_capacity(64),
            load,
            in_flight,
            publishers,
            subscriber,
            scratch: vec![0; 16 * 1024],
            lost: 0,
            progressed: Instant::now(),
        })
    }

    /// Where the load stands.
    pub fn counts(&self) -> Counts {
        Counts {
            sent: self.publishers.iter().map(Publisher::sent).sum(),
            acked: self.publishers.iter().map(|p| p.acked).sum(),
            delivered: self.subscriber.as_ref().map_or(0, |s| s.delivered),
            lost: self.lost,
        }
    }

    /// Publishes as fast as the broker lets it until `end`.
    pub fn run_until(&mut self, end: Instant) -> Result<(), BenchError> {
        self.progressed = Instant::now();
        self.refill(self.in_flight)?;
        while Instant::now() < end {
            self.turn()?;
            self.refill(self.in_flight / REFILL_PART)?;
        }
        Ok(())
    }

    /// Stops publishing and waits until all is acknowledged and delivered;
    /// QoS 0 messages that do not come are counted as lost.
    pub fn drain(&mut self) -> Result<Counts, BenchError> {
        self.progressed = Instant::now();
        loop {
            for publisher in &mut self.publishers {
                publisher.finish_frame()?;
            }
            if self.is_drained() {
                break;
            }
            self.turn()?;
        }
        if self.load.qos == 0 {
            self.give_up_waiting(); // what was given up and came late is not lost
        }
        Ok(self.counts())
    }

    fn is_drained(&self) -> bool {
        let counts = self.counts();
        let whole = self.publishers.iter().all(Publisher::is_whole);
        let acked = self.load.qos == 0 || counts.acked >= counts.sent;
        let delivered = self.subscriber.is_none() || counts.delivered + counts.lost >= counts.sent;
        whole && acked && delivered
    }

    /// Waits for the sockets once and takes what they have.
    fn turn(&mut self) -> Result<(), BenchError> {
        std::thread::sleep(PAUSE);
        let polled = self.poll.poll(&mut self.events, Some(WAIT_MAX));
        match polled {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(()),
            other => other.map_err(io("polling sockets"))?,
        }
        if self.events.is_empty() {
            return self.nothing_came();
        }
        self.progressed = Instant::now();
        for event in &self.events {
            let token = event.token();
            if token == SUBSCRIBER {
                if let Some(subscriber) = &mut self.subscriber {
                    subscriber.send_acks()?;
                    subscriber.receive()?;
                }
            } else if let Some(publisher) = self.publishers.get_mut(token.0)
                && event.is_readable()
            {
                publisher.receive(&mut self.scratch)?;
            }
        }
        Ok(())
    }

    fn nothing_came(&mut self) -> Result<(), BenchError> {
        if self.progressed.elapsed() > STALL_MAX {
            return Err(BenchError::Timeout {
                what: format!("an answer to the load ({:?})", self.counts()),
                limit: STALL_MAX,
            });
        }
        if self.load.qos == 0 && self.progressed.elapsed() > LOST_AFTER {
            self.give_up_waiting();
        }
        Ok(())
    }

    /// What was sent at QoS 0 and has not come will not come.
    fn give_up_waiting(&mut self) {
        let counts = self.counts();
        self.lost = counts.sent.saturating_sub(counts.delivered);
    }

    /// Fills the windows that have at least `room`.
    fn refill(&mut self, room: u64) -> Result<(), BenchError> {
        if self.load.qos == 0 {
            return self.refill_by_credit();
        }
        for publisher in &mut self.publishers {
            let end = publisher.acked + self.in_flight;
            if end - publisher.sent() >= room {
                publisher.send_upto(end)?;
            }
        }
        Ok(())
    }

    /// At QoS 0 nothing is acknowledged: what was delivered sets the pace.
    fn refill_by_credit(&mut self) -> Result<(), BenchError> {
        let counts = self.counts();
        let done = counts.delivered + counts.lost;
        let credit = (done + AHEAD_MAX).saturating_sub(counts.sent);
        let each = credit / CONNECTIONS as u64;
        if each < REFILL {
            return Ok(());
        }
        for publisher in &mut self.publishers {
            let end = publisher.sent() + each;
            publisher.send_upto(end)?;
        }
        Ok(())
    }
}
