//! The site's other nodes, as tests of what they do for links need them: one that answers, one that is silent, one by a
//! connection that stands, and two.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::lab::Site;
use crate::links::{NoAnswer, Nodes, Pending, Within};
use crate::transport::pair::{Pair, pair};
use crate::transport::{FrameReceiver, FrameSender, NodeId, SiteConnection, SiteEndpoint};

pub const ME: NodeId = NodeId(1);
pub const OTHER: NodeId = NodeId(2);
/// The one other node, which answers and takes no stream.
pub struct Other(pub Arc<Within>);

impl Nodes for Other {
    fn connected(&self) -> Vec<NodeId> {
        vec![OTHER]
    }

    fn staying(&self) -> Vec<NodeId> {
        vec![OTHER]
    }

    fn ask(&self, node: NodeId, body: Vec<u8>) -> Pending<'_, Result<Vec<u8>, NoAnswer>> {
        assert_eq!(node, OTHER);
        Box::pin(async move { self.0.answer(ME, &body).await.ok_or(NoAnswer::Older) })
    }

    fn open(&self, _: NodeId) -> Pending<'_, Result<(FrameSender, FrameReceiver), String>> {
        Box::pin(async { Err("no streams".to_owned()) })
    }
}

/// The one other node, which is not there at first, and then answers no question.
pub struct Silent {
    pub is_there: AtomicU32,
}

impl Nodes for Silent {
    fn connected(&self) -> Vec<NodeId> {
        [OTHER].into_iter().take(self.is_there.load(Ordering::Relaxed) as usize).collect()
    }

    fn staying(&self) -> Vec<NodeId> {
        vec![OTHER]
    }

    fn ask(&self, _: NodeId, _: Vec<u8>) -> Pending<'_, Result<Vec<u8>, NoAnswer>> {
        Box::pin(async { Err(NoAnswer::Failed("it has much to do".to_owned())) })
    }

    fn open(&self, _: NodeId) -> Pending<'_, Result<(FrameSender, FrameReceiver), String>> {
        Box::pin(async { Err("no streams".to_owned()) })
    }
}

/// The one other node, by a connection that stands.
pub struct Wire {
    pub other: Other,
    pub connection: SiteConnection,
    pub opened: AtomicU32,
    _endpoints: [SiteEndpoint; 2],
}

impl Wire {
    pub async fn to(other: &Site) -> Arc<Wire> {
        let Pair { dialled, taken, endpoints } = pair(OTHER, ME).await;
        let within = Arc::clone(other.upstream().within());
        let serving = Arc::clone(&within);
        tokio::spawn(async move {
            while let Ok((out, from)) = taken.accept().await {
                let serving = Arc::clone(&serving);
                tokio::spawn(async move { serving.serve(ME, out, from).await });
            }
        });
        Arc::new(Wire { other: Other(within), connection: dialled, opened: AtomicU32::new(0), _endpoints: endpoints })
    }
}

impl Nodes for Wire {
    fn connected(&self) -> Vec<NodeId> {
        self.other.connected()
    }

    fn staying(&self) -> Vec<NodeId> {
        self.other.staying()
    }

    fn ask(&self, node: NodeId, body: Vec<u8>) -> Pending<'_, Result<Vec<u8>, NoAnswer>> {
        self.other.ask(node, body)
    }

    fn open(&self, _: NodeId) -> Pending<'_, Result<(FrameSender, FrameReceiver), String>> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { self.connection.open().await.map_err(|error| error.to_string()) })
    }
}

/// Two other nodes, of which one takes streams.
pub struct Two {
    pub wire: Arc<Wire>,
    pub third: Other,
    pub asked: AtomicU32,
    /// How many questions it leaves unanswered at first.
    pub mute_for: u32,
}

pub const THIRD: NodeId = NodeId(3);

impl Nodes for Two {
    fn connected(&self) -> Vec<NodeId> {
        vec![OTHER, THIRD]
    }

    fn staying(&self) -> Vec<NodeId> {
        self.connected()
    }

    fn ask(&self, node: NodeId, body: Vec<u8>) -> Pending<'_, Result<Vec<u8>, NoAnswer>> {
        if node == OTHER {
            return self.wire.ask(node, body);
        }
        if self.asked.fetch_add(1, Ordering::Relaxed) < self.mute_for {
            return Box::pin(async { Err(NoAnswer::Failed("it has just started".to_owned())) });
        }
        self.third.ask(OTHER, body)
    }

    fn open(&self, node: NodeId) -> Pending<'_, Result<(FrameSender, FrameReceiver), String>> {
        if node == OTHER { self.wire.open(node) } else { self.third.open(node) }
    }
}
