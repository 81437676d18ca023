//! A node that says what it wants: greetings and streams made by hand.

use tokio::time::timeout;

use super::hello::Hello;
use super::*;
use crate::transport::{Ended, StreamError};

/// A node whose greeting is made by hand.
pub(super) struct Raw {
    pub(super) endpoint: SiteEndpoint,
}

impl Raw {
    pub(super) fn new(ids: &Ids, node: u64) -> Self {
        Self { endpoint: ids.endpoint(node, &fast()) }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.endpoint.address().unwrap()
    }

    /// What it would say of itself.
    pub(super) fn hello(&self, incarnation: u64) -> Hello {
        let node = self.endpoint.identity().node();
        let clock = Clock::starting_after(0);
        let now = Moment { monotonic: Duration::ZERO, wall_ms: clock.wall_ms(), steady_ms: clock.steady_ms() };
        Hello::of(&Own { node, site: SITE, origin: node.0 + 100, incarnation }, &Spoken::default(), now)
    }

    pub(super) async fn dial(&self, node: &Node) -> SiteConnection {
        let to = node.peers.own().node;
        timeout(LONG, self.endpoint.dial(node.address(), to)).await.unwrap().unwrap()
    }

    /// Dials and greets; the connection, or how it was sent away.
    pub(super) async fn greet(&self, node: &Node, hello: &Hello) -> Result<SiteConnection, Ended> {
        let connection = self.dial(node).await;
        match send_first(&connection, &framed(&hello.encode())).await {
            Ok(Some(bytes)) => {
                assert_eq!(Hello::decode(&bytes).unwrap().node, node.peers.own().node);
                Ok(connection)
            }
            Ok(None) => panic!("no greeting came"),
            Err(StreamError::Lost(ended)) => Err(ended),
            Err(other) => panic!("{other}"),
        }
    }

    /// Takes a connection and answers the greeting with these bytes.
    pub(super) async fn take(&self, answer: &[u8]) -> SiteConnection {
        let attempt = timeout(LONG, self.endpoint.accept()).await.unwrap().unwrap();
        let connection = attempt.shake_hands().await.unwrap();
        let (mut send, mut receive) = connection.accept().await.unwrap();
        assert_eq!(receive.receive_head::<1>().await, Ok(Some([0])));
        assert!(Hello::decode(&receive.receive_frame(1 << 10).await.unwrap().unwrap()).is_some());
        send.send_head(answer).await.unwrap();
        send.finish();
        connection
    }
}

/// The bytes of the greeting's stream.
pub(super) fn framed(hello: &[u8]) -> Vec<u8> {
    [&[0][..], &frame(hello)].concat()
}

pub(super) fn frame(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_le_bytes()[..], body].concat()
}

/// Sends these bytes on a new stream, and the end of it; what comes back.
pub(super) async fn send_first(connection: &SiteConnection, bytes: &[u8]) -> Result<Option<Vec<u8>>, StreamError> {
    let (mut send, mut receive) = connection.open().await?;
    send.send_head(bytes).await?;
    send.finish();
    timeout(LONG, receive.receive_frame(1 << 20)).await.unwrap()
}

/// Keeps a connection alive, as another node would.
pub(super) fn beat(connection: SiteConnection, heartbeat: Heartbeat) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            connection.send_datagram(heartbeat.encode());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
}

/// The code with which a connection was closed.
pub(super) fn code(ended: &Ended) -> Option<Close> {
    match ended {
        Ended::Closed { code, .. } => Close::from_number(*code),
        _ => None,
    }
}
