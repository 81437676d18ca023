//! One connection by `edgeway/1` over QUIC.
//!
//! The task's side is [`Inlet`] and [`Pump`]; a task of its own carries the connection, and ends with the pump. Each
//! lane has a stream, opened when it is first used, and so have events where the device listens for its twin; what
//! waits in a lane is put together into frames (`batch`, pure), `line` says when one may be sent (pure), `lane` sends
//! it and reads the acknowledgements. `window` (pure) decides how much may be under way, so that what is urgent finds
//! short queues in the network.

mod batch;
mod connect;
mod control;
mod endpoint;
mod events;
#[cfg(test)]
pub(super) mod fake_node;
mod frames;
mod inlet;
mod lane;
mod line;
#[cfg(test)]
mod shaped_tests;
#[cfg(test)]
mod tests;
mod window;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub(super) use connect::Closed;
pub use endpoint::SharedEndpoint;
pub(super) use inlet::Inlet;

use super::config::Config;
use super::link::{Broke, Heard};
use super::tls::Tls;
use connect::{Ready, connect};
use inlet::Shared;

/// Things heard that the task has not taken; beyond, the streams are not read.
const HEARD_MAX: usize = 64;

/// Where to, and how it is trusted.
pub(super) struct Target<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) tls: &'a Tls,
    pub(super) endpoint: Option<&'a SharedEndpoint>,
}

/// What is heard. Dropping it ends the connection.
pub(super) struct Pump {
    shared: Arc<Shared>,
    heard: mpsc::Receiver<Result<Heard, Broke>>,
    carrier: JoinHandle<()>,
}

/// Begins to connect. `commands`: whether the device takes them.
pub(super) fn open(config: &Config, target: Target<'_>, commands: bool) -> (Inlet, Pump) {
    let shared = Arc::new(Shared::default());
    let (say, heard) = mpsc::channel(HEARD_MAX);
    let wish = connect::Wish::new(config, target, commands);
    let carrier = tokio::spawn(carry(Arc::clone(&shared), wish, say));
    (Inlet::new(Arc::clone(&shared)), Pump { shared, heard, carrier })
}

impl Pump {
    /// The next thing heard.
    pub(super) async fn next(&mut self) -> Result<Heard, Broke> {
        loop {
            if let Some(heard) = self.shared.next_said() {
                return Ok(heard);
            }
            tokio::select! {
                heard = self.heard.recv() => {
                    let heard = heard.unwrap_or_else(|| Err("the connection has ended".into()));
                    if let Ok(Heard::LaneReset { lane }) = &heard {
                        // Whoever hears this hands all of the lane over again; nothing handed before may be sent.
                        self.shared.lane(*lane).begin_anew();
                    }
                    return heard;
                }
                () = self.shared.said.notified() => {}
            }
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

type Say = mpsc::Sender<Result<Heard, Broke>>;

/// Carries one connection from its first packet to its last.
async fn carry(shared: Arc<Shared>, wish: connect::Wish, say: Say) {
    let ended = match connect(&wish).await {
        Ok(ready) => talk(&shared, ready, &say).await,
        Err(error) => error,
    };
    // Nobody listens where the client is being dropped.
    let _ = say.send(Err(ended)).await;
}

/// All streams of a connection, until one of them ends it.
async fn talk(shared: &Shared, ready: Ready, say: &Say) -> Broke {
    let Ready { endpoint, connection, control, limits, known, twin } = ready;
    shared.connected(connection.clone(), limits);
    if say.send(Ok(Heard::Connected { known })).await.is_err() {
        return "nobody listens".into();
    }
    let lanes = async {
        let [urgent, normal, bulk] = shared.lanes().map(|line| lane::run(line, &connection, limits, say));
        tokio::try_join!(urgent, normal, bulk).map(|_| ())
    };
    let (listening, speaking) = control.halves(shared, say);
    let ended = tokio::select! {
        ended = async { tokio::try_join!(lanes, listening, events::listen(&connection, twin.as_deref(), say)).err() } => ended,
        silent = connect::fall_silent(&connection, || shared.awaits()) => Some(silent),
        farewell = speaking => farewell.err(),
    };
    if shared.goes() {
        connect::leave(&connection, endpoint.as_ref()).await;
        let _ = say.send(Ok(Heard::Disconnecting)).await;
    }
    match connection.close_reason() {
        Some(reason) => connect::explain(&reason),
        None => ended.unwrap_or_else(|| "the connection has ended".into()),
    }
}
