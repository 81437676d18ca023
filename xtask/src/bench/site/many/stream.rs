//! One stream of a site's link: greeted, told where its partition ends, and then sent what there is.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Instant;

use tokio::sync::Notify;

use super::backlog::Batch;
use super::dial::{Dialled, In, Out};
use super::tally::Tally;
use super::window::{Manner, Window};
use super::wire::{self, ANSWER_WAIT, Answer, Partition};

/// What a site says of itself, and of its topic.
#[derive(Debug, Clone)]
pub struct Card {
    pub site: u64,
    pub name: String,
    pub origin: u64,
    pub topic: u64,
    pub topic_name: &'static str,
    /// Partitions of the topic; each has a stream of its own.
    pub partitions: u32,
}

/// A stream that was greeted, and whose partition is empty upstream.
#[derive(Debug)]
pub struct Stream {
    origin: u64,
    out: Out,
    from: In,
}

impl Card {
    /// A partition of the topic.
    pub fn partition(&self, index: u32) -> Partition {
        (self.origin, self.topic, index)
    }
}

impl Stream {
    /// Opens the stream of a partition.
    pub async fn open(dialled: &Dialled, card: &Card, index: u32) -> Result<Stream, String> {
        match tokio::time::timeout(ANSWER_WAIT, Self::greet(dialled, card, index)).await {
            Ok(greeted) => greeted,
            Err(_) => Err("no answer to the greeting".to_owned()),
        }
    }

    async fn greet(dialled: &Dialled, card: &Card, index: u32) -> Result<Stream, String> {
        let (mut out, mut from) = dialled.open().await?;
        out.send(&wire::hello(card.site, &card.name, index == 0)).await?;
        let Answer::Welcome = wire::answer(&from.receive().await?)? else {
            return Err("no welcome".to_owned());
        };
        out.send(&wire::offer(card.origin, card.site)).await?;
        out.send(&wire::topic(card.topic, card.topic_name, card.partitions)).await?;
        out.send(&wire::ask(&[card.partition(index)])).await?;
        match wire::answer(&from.receive().await?)? {
            Answer::Stands(ends) if ends == [0] => Ok(Stream { origin: card.origin, out, from }),
            other => Err(format!("it asked where its partition ends, and heard {other:?}")),
        }
    }

    /// Sends a backlog and hears until all of it is stored.
    pub async fn drain(self, batches: &[Batch], manner: Manner, tally: &Tally) -> Result<(), String> {
        let Stream { origin, mut out, mut from } = self;
        let window = Mutex::new(Window::new(manner));
        let heard = Notify::new();
        let send = async {
            let mut rest = batches;
            while !rest.is_empty() {
                let room = lock(&window).next_bytes();
                let Some(room) = room else {
                    heard.notified().await;
                    continue;
                };
                let (now, after) = rest.split_at(first_of(rest, room));
                rest = after;
                let (events, bytes) = weigh(now);
                let number = lock(&window).sent(events, bytes, Instant::now());
                out.send(&wire::parts(number, origin, now.iter().map(|batch| &*batch.bytes))).await?;
            }
            Ok::<_, String>(())
        };
        let expected = weigh(batches).0;
        let hear = async {
            let mut events = 0;
            while events < expected {
                let Answer::Stored(number) = wire::answer(&from.receive().await?)? else {
                    return Err("an answer to what was not asked".to_owned());
                };
                let stored = lock(&window).stored(number, Instant::now())?;
                events += stored.events;
                tally.add(stored);
                heard.notify_one();
            }
            Ok(())
        };
        tokio::try_join!(send, hear)?;
        out.finish();
        Ok(())
    }

    /// Sends one batch as a frame of its own and waits until it is stored.
    pub async fn store(&mut self, number: u64, batch: &Batch) -> Result<(), String> {
        self.out.send(&wire::parts(number, self.origin, std::iter::once(&*batch.bytes))).await?;
        match wire::answer(&self.from.receive().await?)? {
            Answer::Stored(stored) if stored == number => Ok(()),
            other => Err(format!("it sent frame {number} and heard {other:?}")),
        }
    }
}

fn lock(window: &Mutex<Window>) -> std::sync::MutexGuard<'_, Window> {
    window.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many batches have so many bytes, one at least.
fn first_of(batches: &[Batch], bytes: usize) -> usize {
    let mut sum = 0;
    let fits = batches.iter().take_while(|batch| {
        sum += batch.bytes.len();
        sum <= bytes
    });
    fits.count().max(1).min(batches.len())
}

/// Events and bytes of batches.
pub fn weigh(batches: &[Batch]) -> (u64, usize) {
    batches.iter().fold((0, 0), |sum, batch| (sum.0 + batch.events, sum.1 + batch.bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_as_many_batches_as_fit_and_one_at_least() {
        let batches: Vec<Batch> = (1..=4).map(|events| Batch { bytes: vec![0; 10], events }).collect();
        for (room, expected) in [(0, 1), (9, 1), (10, 1), (19, 1), (20, 2), (40, 4), (1_000, 4)] {
            assert_eq!(first_of(&batches, room), expected, "{room}");
        }
        assert_eq!(weigh(&batches), (10, 40));
        assert_eq!(weigh(&[]), (0, 0));
    }
}
