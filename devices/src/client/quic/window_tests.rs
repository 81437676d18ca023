//! The window against simulated links: a queue in front of a slow link, and what comes back.

use std::collections::VecDeque;

use super::*;

const PACKET: u64 = 1_452;

/// A link with a deep queue, and a sender that always has something to send.
struct Link {
    bits_per_second: u64,
    round_trip: Duration,
    queue_packets: usize,
    /// Nothing passes in this time.
    outage: Option<(Duration, Duration)>,
    /// From this time on the way is longer.
    longer: Option<(Duration, Duration)>,
    /// One packet in so many is lost by noise.
    noise: Option<u64>,
}

/// What became of the packets, after the beginning that is not looked at.
struct Outcome {
    /// Part of the link's capacity that was used, in percent.
    used: u64,
    /// The wait in the queue, 99 of 100 packets waited less.
    waited: Duration,
}

struct Sent {
    at: Duration,
    /// When its acknowledgement arrives; `None`: it is lost.
    back: Option<Duration>,
}

struct Sender {
    window: ShortQueue,
    under_way: VecDeque<Sent>,
    /// When the link has sent everything that it holds.
    free_at: Duration,
    waits: Vec<(Duration, Duration)>,
    numbers: u64,
}

impl Link {
    fn deep(bits_per_second: u64, round_trip_ms: u64) -> Self {
        let round_trip = Duration::from_millis(round_trip_ms);
        Self { bits_per_second, round_trip, queue_packets: 1_000, outage: None, longer: None, noise: None }
    }

    fn serialization(&self) -> Duration {
        Duration::from_micros(PACKET * 8 * 1_000_000 / self.bits_per_second)
    }

    fn send(&self, sender: &mut Sender, now: Duration) {
        sender.numbers += 1;
        let wait = sender.free_at.saturating_sub(now);
        let queued = wait.as_micros() / self.serialization().as_micros();
        let gone = self.outage.is_some_and(|(from, to)| (from..to).contains(&now))
            || queued >= self.queue_packets as u128
            || self.noise.is_some_and(|one_in| sender.numbers.is_multiple_of(one_in));
        let mut back = None;
        if !gone {
            sender.free_at = sender.free_at.max(now) + self.serialization();
            let longer = self.longer.filter(|(from, _)| now >= *from).map_or(Duration::ZERO, |(_, by)| by);
            back = Some(sender.free_at + self.round_trip + longer);
            sender.waits.push((now, wait));
        }
        sender.under_way.push_back(Sent { at: now, back });
    }

    /// Runs for a time and judges what came after `from`.
    fn run(&self, from: Duration, until: Duration) -> Outcome {
        let mut sender = Sender {
            window: ShortQueue::new(Duration::ZERO, PACKET),
            under_way: VecDeque::new(),
            free_at: Duration::ZERO,
            waits: Vec::new(),
            numbers: 0,
        };
        let (mut now, mut delivered, mut silence) = (Duration::ZERO, 0, 0_u32);
        while now < until {
            while sender.under_way.len() as u64 * PACKET + PACKET < sender.window.bytes() {
                self.send(&mut sender, now);
            }
            // The link keeps the order.
            let Some(acked) = sender.under_way.iter().position(|sent| sent.back.is_some()) else {
                // All is lost: a probe, ever later.
                now += (self.round_trip * 3 + Duration::from_millis(200)) * 2_u32.pow(silence.min(4));
                silence += 1;
                sender.under_way.pop_front();
                self.send(&mut sender, now);
                continue;
            };
            let Sent { at: sent, back } = sender.under_way.remove(acked).unwrap();
            now = now.max(back.unwrap());
            if now >= from {
                delivered += PACKET;
            }
            sender.window.acked(now, sent, PACKET, false);
            sender.window.acked_all(now, false);
            self.forget_lost(&mut sender, now, acked, silence > 0);
            silence = 0;
        }
        let capacity = self.bits_per_second * (until - from).as_millis() as u64 / 8_000;
        let mut waits: Vec<Duration> =
            sender.waits.iter().filter(|(at, _)| *at >= from).map(|(_, wait)| *wait).collect();
        waits.sort();
        Outcome { used: delivered * 100 / capacity, waited: waits[waits.len() * 99 / 100] }
    }

    /// What was sent well before something that arrived is lost.
    fn forget_lost(&self, sender: &mut Sender, now: Duration, before: usize, long: bool) {
        let lost: Vec<usize> = (0..before).filter(|at| sender.under_way[*at].back.is_none()).collect();
        let Some(newest) = lost.last().map(|at| sender.under_way[*at].at) else { return };
        for at in lost.iter().rev() {
            sender.under_way.remove(*at);
        }
        sender.window.lost(now, newest, PACKET, long);
    }
}

#[test]
fn links_are_used_and_their_queues_stay_short() {
    let ms = Duration::from_millis;
    // (bits per second, round trip in ms, percent used at least, longest wait)
    let cases = [
        // Two packets are the smallest window: one of them waits for the other.
        (50_000, 300, 90, ms(500)),
        (1_000_000, 100, 90, ms(60)),
        (100_000_000, 20, 90, ms(35)),
        (1_000_000, 600, 85, ms(220)),
        (10_000_000, 5, 90, ms(60)),
    ];
    for (rate, round_trip, used, waited) in cases {
        let found = Link::deep(rate, round_trip).run(Duration::from_secs(10), Duration::from_secs(60));
        println!("{rate} bit/s, {round_trip} ms: {} % used, {:?} waited", found.used, found.waited);
        assert!(found.used >= used, "{rate} bit/s, {round_trip} ms: {} % used", found.used);
        assert!(found.waited <= waited, "{rate} bit/s, {round_trip} ms: {:?} waited", found.waited);
    }
}

#[test]
fn the_start_does_not_flood_a_deep_queue() {
    let found = Link::deep(1_000_000, 100).run(Duration::ZERO, Duration::from_secs(10));
    println!("{} % used, {:?} waited", found.used, found.waited);
    assert!(found.waited < Duration::from_millis(250), "{:?}", found.waited);
    assert!(found.used >= 80, "{}", found.used);
}

#[test]
fn an_outage_is_forgotten_within_seconds() {
    let outage = Some((Duration::from_secs(20), Duration::from_secs(50)));
    for (rate, round_trip) in [(1_000_000, 100), (100_000_000, 20)] {
        let link = Link { outage, ..Link::deep(rate, round_trip) };
        // The last probe may have been sent just before the outage's end: the next one comes much later.
        let found = link.run(Duration::from_secs(62), Duration::from_secs(90));
        println!("{rate}: {} % used, {:?} waited", found.used, found.waited);
        assert!(found.used >= 85, "{rate}: {} % used", found.used);
    }
}

#[test]
fn a_longer_way_is_not_taken_for_a_queue() {
    for by_ms in [60, 200, 500] {
        let longer = Some((Duration::from_secs(20), Duration::from_millis(by_ms)));
        let link = Link { longer, ..Link::deep(1_000_000, 100) };
        let found = link.run(Duration::from_secs(30), Duration::from_secs(90));
        println!("longer by {by_ms} ms: {} % used, {:?} waited", found.used, found.waited);
        assert!(found.used >= 85, "longer by {by_ms} ms: {} % used", found.used);
        assert!(found.waited < Duration::from_millis(250), "longer by {by_ms} ms: {:?}", found.waited);
    }
}

#[test]
fn a_shallow_queue_and_noise_are_survived() {
    let shallow = Link { queue_packets: 10, ..Link::deep(10_000_000, 40) };
    let noisy = Link { noise: Some(1_000), ..Link::deep(1_000_000, 100) };
    for (link, used) in [(shallow, 75), (noisy, 80)] {
        let found = link.run(Duration::from_secs(10), Duration::from_secs(60));
        println!("{} bit/s: {} % used, {:?} waited", link.bits_per_second, found.used, found.waited);
        assert!(found.used >= used, "{} bit/s: {} % used", link.bits_per_second, found.used);
    }
}

#[test]
fn silence_and_small_packets_leave_a_window() {
    let mut window = ShortQueue::new(Duration::ZERO, PACKET);
    for second in 1..200 {
        let now = Duration::from_secs(second);
        window.acked(now, now - Duration::from_millis(80), 100, true);
        window.acked_all(now, true);
    }
    assert_eq!(window.bytes(), WINDOW_FIRST_PACKETS * PACKET, "an idle connection says nothing of the path");
    for second in 200..240 {
        let now = Duration::from_secs(second);
        window.lost(now, now - Duration::from_millis(10), PACKET, second % 2 == 0);
    }
    assert_eq!(window.bytes(), WINDOW_MIN_PACKETS * PACKET);
    window.set_packet_bytes(9_000);
    assert_eq!(window.bytes(), WINDOW_MIN_PACKETS * 9_000);
}
