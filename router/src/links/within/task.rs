//! Keeps a stream to each of the site's other nodes that is connected.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::sender::Sender;
use super::{Nodes, Within};
use crate::links::sender::Ended;
use crate::links::wire::{Answer, Hello, Said};
use crate::links::{PROGRAM, PROTOCOL};
use crate::transport::{FrameReceiver, FrameSender, NodeId};

/// How often it looks who is connected.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a node is left alone whose stream has ended: an earlier program knows none.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// How long a greeting may take.
const HELLO_WAIT: Duration = Duration::from_secs(10);
/// Bytes of a greeting's answer.
const WELCOME_BYTES_MAX: usize = 1 << 10;

impl Within {
    /// Runs as long as the node does.
    pub async fn run(self: Arc<Self>) {
        let Some(nodes) = self.nodes.get().cloned() else { return };
        let mut streams = JoinSet::new();
        // When each one may be begun; `None` while it stands.
        let mut begun: BTreeMap<NodeId, Option<Instant>> = BTreeMap::new();
        loop {
            let connected = nodes.connected();
            self.away.lock().look(&nodes.staying(), &connected, Instant::now());
            begun.retain(|node, again| again.is_none() || connected.contains(node));
            for node in connected {
                let again = begun.entry(node).or_insert_with(|| Some(Instant::now()));
                if again.is_some_and(|at| at <= Instant::now()) {
                    *again = None;
                    let (within, nodes) = (Arc::clone(&self), Arc::clone(&nodes));
                    streams.spawn(async move { (node, within.offer(&*nodes, node).await) });
                }
            }
            tokio::select! {
                () = sleep(LOOK_EVERY) => {}
                Some(ended) = streams.join_next(), if !streams.is_empty() => {
                    let Ok((node, ended)) = ended else { return };
                    tracing::debug!(%node, %ended, "a stream to a node, of what links brought, has ended");
                    begun.insert(node, Some(Instant::now() + AGAIN_AFTER));
                }
            }
        }
    }

    /// Offers a node what links brought here until the stream ends; why it did.
    async fn offer(self: &Arc<Self>, nodes: &dyn Nodes, node: NodeId) -> Ended {
        let (mut out, mut from) = match nodes.open(node).await {
            Ok(streams) => streams,
            Err(why) => return Ended::Store(why),
        };
        match timeout(HELLO_WAIT, self.greet(&mut out, &mut from)).await {
            Ok(Ok(())) => Sender::new(self, node).run(out, from).await,
            Ok(Err(ended)) => ended,
            Err(_) => Ended::Wrong("nothing to the greeting".to_owned()),
        }
    }

    async fn greet(&self, out: &mut FrameSender, from: &mut FrameReceiver) -> Result<(), Ended> {
        let (program, name) = (PROGRAM.to_owned(), String::new());
        let hello = Hello { protocol: PROTOCOL, program, site: self.site, name, priority: 1, is_first: true };
        out.send_frame(&Said::Hello(hello).encode()).await?;
        let Some(frame) = from.receive_frame(WELCOME_BYTES_MAX).await? else { return Err(Ended::ByOther) };
        match Answer::decode(&frame)? {
            Answer::Welcome(site, _) if site == self.site => Ok(()),
            _ => Err(Ended::Wrong("something else than welcome".to_owned())),
        }
    }
}
