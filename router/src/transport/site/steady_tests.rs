//! The window on paths that lose at random, overflow, change, or are slower than was said.

use std::collections::VecDeque;

use super::*;

const PACKET_BYTES: u64 = 1_200;

/// A path: its rate, the time there and back without a queue, the queue's bytes, and a loss in so many packets.
#[derive(Clone, Copy)]
struct Line {
    bytes_per_s: u64,
    rtt: Duration,
    queue_bytes_max: u64,
    loss_percent: u64,
}

struct Packet {
    sent: Duration,
    acked_at: Option<Duration>,
}

/// What came of a time on a path.
#[derive(Debug)]
struct Outcome {
    /// The part of the path's rate that was delivered.
    used: f64,
    /// The longest wait in the queue in the second half of the time.
    wait: Duration,
}

/// SplitMix64.
fn below(random: &mut u64, bound: u64) -> u64 {
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *random;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % bound
}

/// Sends all that the window lets go, for so long.
fn run(window: &mut Steady, line: Line, from: Duration, time: Duration, random: &mut u64) -> Outcome {
    let mut flying: VecDeque<Packet> = VecDeque::new();
    let (mut now, mut free_at, mut delivered) = (from, from, 0);
    let mut wait = Duration::ZERO;
    let takes = Duration::from_nanos(PACKET_BYTES * 1_000_000_000 / line.bytes_per_s);
    while now < from + time {
        while (flying.len() as u64 + 1) * PACKET_BYTES < window.bytes() {
            let begins = free_at.max(now);
            let queued = u128::from(line.bytes_per_s) * (begins - now).as_nanos() / 1_000_000_000;
            let fits = queued as u64 + PACKET_BYTES <= line.queue_bytes_max;
            let acked_at = if fits {
                free_at = begins + takes;
                if now > from + time / 2 {
                    wait = wait.max(begins - now);
                }
                (below(random, 100) >= line.loss_percent).then_some(free_at + line.rtt)
            } else {
                None
            };
            flying.push_back(Packet { sent: now, acked_at });
        }
        // The next acknowledgement; a packet is lost when three later ones are there, or after a long silence.
        let acked = flying.iter().enumerate().find_map(|(at, packet)| packet.acked_at.map(|when| (at, when)));
        match acked {
            Some((0, when)) => {
                now = now.max(when);
                let packet = flying.pop_front().unwrap();
                delivered += PACKET_BYTES;
                window.acked(now, packet.sent, PACKET_BYTES, false);
            }
            Some((at, when)) => {
                now = now.max(when);
                for _ in 0..at {
                    flying.pop_front();
                    window.lost(now, now, PACKET_BYTES, false);
                }
            }
            None => {
                now += line.rtt * 3;
                window.lost(now, now, flying.len() as u64 * PACKET_BYTES, true);
                flying.clear();
            }
        }
    }
    Outcome { used: delivered as f64 / line.bytes_per_s as f64 / time.as_secs_f64(), wait }
}

fn line(bytes_per_s: u64, ms: u64, loss_percent: u64) -> Line {
    let rtt = Duration::from_millis(ms);
    Line { bytes_per_s, rtt, queue_bytes_max: 1_500_000, loss_percent }
}

#[test]
fn random_loss_leaves_the_path_in_use_and_the_queue_short() {
    // With a rate that was set, and with one that is measured.
    let lines = [line(6_250, 300, 2), line(125_000, 100, 1), line(1_250_000, 50, 2), line(12_500_000, 20, 0)];
    for (seed, line) in (0_u64..).zip(lines) {
        for rate in [Some(line.bytes_per_s), None] {
            let mut random = seed;
            let mut window = Steady::new(PACKET_BYTES, rate);
            let outcome = run(&mut window, line, Duration::ZERO, Duration::from_secs(60), &mut random);
            let lost = line.loss_percent as f64 / 100.0;
            assert!(outcome.used > 0.96 * (1.0 - lost), "{rate:?} at {}: {outcome:?}", line.bytes_per_s);
            // What is lost makes room before it would have been acknowledged.
            let packets = (BURST * 2).max(Duration::from_secs_f64(9.0 * PACKET_BYTES as f64 / line.bytes_per_s as f64));
            let most = if rate.is_some() { packets } else { line.rtt + packets };
            assert!(outcome.wait <= most, "{rate:?} at {}: {outcome:?}, not {most:?}", line.bytes_per_s);
        }
    }
}

#[test]
fn a_queue_that_overflows_is_filled_less() {
    // The rate that was set is ten times what the path carries.
    let narrow = Line { queue_bytes_max: 20_000, ..line(125_000, 100, 0) };
    let mut window = Steady::new(PACKET_BYTES, Some(1_250_000));
    let outcome = run(&mut window, narrow, Duration::ZERO, Duration::from_secs(60), &mut 1);
    assert!(outcome.used > 0.9, "{outcome:?}");
    assert!(window.bytes() < 60_000, "{}", window.bytes());
}

#[test]
fn a_path_that_changes_is_learnt_again() {
    for rate in [Some(125_000), None] {
        let mut window = Steady::new(PACKET_BYTES, rate);
        let (mut random, minute) = (7, Duration::from_secs(60));
        run(&mut window, line(125_000, 50, 1), Duration::ZERO, minute, &mut random);
        // A longer way, and back.
        run(&mut window, line(125_000, 400, 1), minute, minute, &mut random);
        let longer = run(&mut window, line(125_000, 400, 1), minute * 2, minute, &mut random);
        assert!(longer.used > 0.9, "{rate:?}: {longer:?}");
        run(&mut window, line(125_000, 50, 1), minute * 3, minute, &mut random);
        let back = run(&mut window, line(125_000, 50, 1), minute * 4, minute, &mut random);
        assert!(back.used > 0.9 && back.wait < Duration::from_millis(200), "{rate:?}: {back:?}");
    }
}

#[test]
fn it_begins_small_and_is_never_nothing() {
    assert_eq!(Steady::new(PACKET_BYTES, Some(6_250)).bytes(), 4 * PACKET_BYTES);
    assert_eq!(Steady::new(PACKET_BYTES, Some(u64::MAX)).bytes(), 10 * PACKET_BYTES);
    assert_eq!(Steady::new(PACKET_BYTES, None).bytes(), 10 * PACKET_BYTES);
    let mut window = Steady::new(PACKET_BYTES, Some(1));
    window.acked(Duration::from_secs(1), Duration::ZERO, PACKET_BYTES, false);
    (0..100).for_each(|_| window.lost(Duration::ZERO, Duration::ZERO, 100 * PACKET_BYTES, true));
    assert_eq!(window.bytes(), 4 * PACKET_BYTES);
}
