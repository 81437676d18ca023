//! The network: datagrams that come late, twice, in any order or never, and streams that end anywhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use edgeway::replication::Holder;

use crate::seeded::random::Random;

/// What a node says of itself, now and then.
#[derive(Debug, Clone)]
pub struct Beat {
    pub from: u64,
    pub to: u64,
    pub holder: Holder,
}

/// Frames on their way, each with the time at which it arrives.
type Frames = VecDeque<(u64, Vec<u8>)>;

/// A stream of commits between two nodes.
#[derive(Debug)]
pub struct Stream {
    pub follower: u64,
    pub source: u64,
    /// From the follower.
    pub up: Frames,
    /// From the source.
    pub down: Frames,
    /// Nothing can be said on it any more; it ends when what is on its way has come.
    pub is_cut: bool,
}

impl Stream {
    /// Bytes on their way to the follower.
    pub fn down_bytes(&self) -> usize {
        self.down.iter().map(|(_, frame)| frame.len()).sum()
    }
}

/// All links.
#[derive(Debug, Default)]
pub struct Network {
    /// Pairs that cannot hear each other, the smaller id first.
    pub broken: BTreeSet<(u64, u64)>,
    pub streams: BTreeMap<u64, Stream>,
    beats: Vec<(u64, Beat)>,
    next: u64,
    /// The longest time that something is on its way, in milliseconds.
    pub delay_ms: u64,
}

fn pair(a: u64, b: u64) -> (u64, u64) {
    (a.min(b), a.max(b))
}

fn push(frames: &mut Frames, now: u64, delay_ms: u64, frame: Vec<u8>, random: &mut Random) {
    let at = now + random.below(delay_ms + 1);
    // A stream keeps its order.
    let at = frames.back().map_or(at, |(last, _)| at.max(*last));
    frames.push_back((at, frame));
}

fn arrived(frames: &mut Frames, now: u64) -> Vec<Vec<u8>> {
    let count = frames.iter().take_while(|(at, _)| *at <= now).count();
    frames.drain(..count).map(|(_, frame)| frame).collect()
}

impl Network {
    pub fn new(delay_ms: u64) -> Network {
        Network { delay_ms, ..Network::default() }
    }

    pub fn hears(&self, a: u64, b: u64) -> bool {
        !self.broken.contains(&pair(a, b))
    }

    /// Breaks a link, with all streams over it.
    pub fn part(&mut self, a: u64, b: u64, random: &mut Random) {
        self.broken.insert(pair(a, b));
        let over: Vec<u64> =
            self.streams.iter().filter(|(_, s)| pair(s.follower, s.source) == pair(a, b)).map(|(n, _)| *n).collect();
        over.into_iter().for_each(|number| self.cut(number, random));
    }

    pub fn join(&mut self, a: u64, b: u64) {
        self.broken.remove(&pair(a, b));
    }

    /// Ends a stream: of what is on its way a part still comes.
    pub fn cut(&mut self, number: u64, random: &mut Random) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        if !stream.is_cut {
            stream.is_cut = true;
            stream.up.truncate(random.place(stream.up.len() + 1));
            stream.down.truncate(random.place(stream.down.len() + 1));
        }
    }

    pub fn open(&mut self, follower: u64, source: u64) -> u64 {
        self.next += 1;
        let (up, down) = (Frames::new(), Frames::new());
        self.streams.insert(self.next, Stream { follower, source, up, down, is_cut: false });
        self.next
    }

    /// Says something to the source; false where nothing can be said.
    pub fn say_up(&mut self, number: u64, now: u64, frame: Vec<u8>, random: &mut Random) -> bool {
        match self.streams.get_mut(&number) {
            Some(stream) if !stream.is_cut => {
                push(&mut stream.up, now, self.delay_ms, frame, random);
                true
            }
            _ => false,
        }
    }

    pub fn say_down(&mut self, number: u64, now: u64, frame: Vec<u8>, random: &mut Random) -> bool {
        match self.streams.get_mut(&number) {
            Some(stream) if !stream.is_cut => {
                push(&mut stream.down, now, self.delay_ms, frame, random);
                true
            }
            _ => false,
        }
    }

    pub fn arrived_up(&mut self, number: u64, now: u64) -> Vec<Vec<u8>> {
        self.streams.get_mut(&number).map_or_else(Vec::new, |stream| arrived(&mut stream.up, now))
    }

    pub fn arrived_down(&mut self, number: u64, now: u64) -> Vec<Vec<u8>> {
        self.streams.get_mut(&number).map_or_else(Vec::new, |stream| arrived(&mut stream.down, now))
    }

    /// Streams that were cut and on which nothing is left.
    pub fn take_ended(&mut self) -> Vec<(u64, Stream)> {
        self.streams.extract_if(.., |_, s| s.is_cut && s.up.is_empty() && s.down.is_empty()).collect()
    }

    /// All streams of a node are cut, as it went down; what it had said may still come.
    pub fn drop_node(&mut self, node: u64, random: &mut Random) {
        let of: Vec<u64> =
            self.streams.iter().filter(|(_, s)| s.follower == node || s.source == node).map(|(n, _)| *n).collect();
        of.into_iter().for_each(|number| self.cut(number, random));
    }

    pub fn beat(&mut self, now: u64, beat: Beat, is_calm: bool, random: &mut Random) {
        if !self.hears(beat.from, beat.to) || (!is_calm && random.chance(100)) {
            return;
        }
        if random.chance(30) {
            self.beats.push((now + random.below(4 * self.delay_ms + 1), beat.clone()));
        }
        self.beats.push((now + random.below(self.delay_ms + 1), beat));
    }

    pub fn arrived_beats(&mut self, now: u64) -> Vec<Beat> {
        self.beats.extract_if(.., |(at, _)| *at <= now).map(|(_, beat)| beat).collect()
    }
}
