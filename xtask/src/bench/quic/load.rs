//! What both loads over QUIC have in common: publishers that keep their windows full, and the rate that comes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quinn::{RecvStream, SendStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::bench::error::BenchError;

/// How long the last acknowledgements may take.
const LAST_MAX: Duration = Duration::from_secs(10);

/// One publisher's position, seen by both its halves.
#[derive(Debug, Default)]
pub struct Position {
    acked: AtomicU64,
    stop: AtomicBool,
    moved: Notify,
}

impl Position {
    /// Events acknowledged.
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Notes that events up to this number are acknowledged.
    pub fn set_acked(&self, acked: u64) {
        self.acked.store(acked, Ordering::Relaxed);
        self.moved.notify_one();
    }

    /// Whether no more is to be sent.
    pub fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits until there may be more room, or the load stops.
    pub async fn changed(&self) {
        self.moved.notified().await;
    }
}

/// Publishers, each with a task that writes and one that reads.
#[derive(Debug, Default)]
pub struct Publishers {
    halves: JoinSet<Result<(), BenchError>>,
    positions: Vec<Arc<Position>>,
}

/// An error of a load, in its protocol's name.
pub fn broke(error: impl std::fmt::Display) -> BenchError {
    BenchError::Program(format!("the load over QUIC: {error}"))
}

impl Publishers {
    /// Adds a publisher on a two-way stream.
    pub fn add<W, R>(
        &mut self,
        stream: (SendStream, RecvStream),
        write: impl FnOnce(SendStream, Arc<Position>) -> W,
        read: impl FnOnce(RecvStream, Arc<Position>) -> R,
    ) where
        W: Future<Output = Result<(), BenchError>> + Send + 'static,
        R: Future<Output = Result<(), BenchError>> + Send + 'static,
    {
        let position = Arc::new(Position::default());
        self.halves.spawn(write(stream.0, Arc::clone(&position)));
        self.halves.spawn(read(stream.1, Arc::clone(&position)));
        self.positions.push(position);
    }

    /// Lets them publish for `length`, after a warm-up of a third of it; acknowledged events a second. All that was
    /// sent is acknowledged in the end.
    pub async fn rate(mut self, length: Duration) -> Result<f64, BenchError> {
        tokio::time::sleep(length / 3).await;
        let (before, started) = (self.acked(), Instant::now());
        tokio::time::sleep(length).await;
        let rate = (self.acked() - before) as f64 / started.elapsed().as_secs_f64();
        for position in &self.positions {
            position.stop.store(true, Ordering::Relaxed);
            position.moved.notify_one();
        }
        while let Some(ended) = tokio::time::timeout(LAST_MAX, self.halves.join_next()).await.map_err(broke)? {
            ended.map_err(broke)??;
        }
        Ok(rate)
    }

    fn acked(&self) -> u64 {
        self.positions.iter().map(|position| position.acked()).sum()
    }
}
