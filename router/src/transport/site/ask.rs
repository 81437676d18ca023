//! One question to a site that this node is not of: at each address of its token, one stream, one answer.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

use super::connection::SiteConnection;
use super::dial::JoinDialError;
use crate::transport::{Bounds, StreamError};

/// How long a node of the site has to answer the first packet.
const DIAL_WAIT: Duration = Duration::from_secs(5);
/// Addresses of one name that are tried.
const RESOLVED_MAX: usize = 4;
/// How long after the last wait for an answer a silent connection is given up.
const IDLE_BEYOND: Duration = Duration::from_secs(5);

/// A question.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// What is asked.
    pub bytes: &'a [u8],
    /// The longest answer, bytes; at most 4 GiB.
    pub answer_bytes_max: usize,
    /// How long the answer may take.
    pub answer_wait: Duration,
}

/// What is known of the addresses of a name: where it leads, or that it leads nowhere, for people.
pub async fn resolve(address: &str) -> Result<Vec<SocketAddr>, String> {
    let resolved = lookup_host(address).await.map_err(|error| format!("{address}: {error}"))?;
    Ok(resolved.take(RESOLVED_MAX).collect())
}

impl Question<'_> {
    /// Asks by a connection that is being dialled. Errors are for people.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn ask<D>(&self, dial: impl FnOnce(Bounds) -> D) -> Result<Vec<u8>, String>
    where
        D: Future<Output = Result<SiteConnection, JoinDialError>>,
    {
        let connection = match timeout(DIAL_WAIT, dial(self.bounds())).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("no answer".to_owned()),
        };
        match timeout(self.answer_wait, self.exchange(&connection)).await {
            Ok(Ok(Some(bytes))) => Ok(bytes),
            Ok(Ok(None)) => Err("it gave no answer".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("it was reached, and did not answer the request".to_owned()),
        }
    }

    /// What is taken: one answer, on a stream that is opened here.
    fn bounds(&self) -> Bounds {
        let answer = u32::try_from(self.answer_bytes_max).unwrap_or(u32::MAX).saturating_add(1_024);
        Bounds {
            two_way_streams_max: 0,
            one_way_streams_max: 0,
            stream_bytes_max: answer,
            unread_bytes_max: answer,
            unsent_bytes_max: 64 << 10,
            datagram_bytes_max: 0,
            idle_max: self.answer_wait + IDLE_BEYOND,
            ping_after: Some(Duration::from_secs(2)),
        }
    }

    async fn exchange(&self, connection: &SiteConnection) -> Result<Option<Vec<u8>>, StreamError> {
        let (mut send, mut receive) = connection.open().await?;
        send.send_frame(self.bytes).await?;
        send.finish();
        receive.receive_frame(self.answer_bytes_max).await
    }
}
