//! Lets sites in that accept an invitation: one request, one answer, a few at once.

use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::super::guests::Place;
use super::super::invite::{self, Answer, REQUEST_BYTES_MAX, Refusal, Request, Welcome};
use super::super::{PROTOCOL_MIN, PROTOCOL_RENEWS};
use super::{Close, LAST_WORDS_WAIT, Upstream};
use crate::transport::{NodeId, SiteConnection, StreamError};

/// Edges that are let in at once, each by a decision of the site; more wait for their turn.
pub(super) const LET_IN_MAX: usize = 4;
/// How long one waits for its turn: less than it waits for the answer, which is 15 s.
const TURN_WAIT: Duration = Duration::from_secs(8);
/// How long an edge has to say what it wants.
const HELLO_WAIT: Duration = Duration::from_secs(10);

impl Upstream {
    /// Answers one that accepts an invitation. Who says nothing keeps nobody from having a turn.
    pub(super) async fn let_in(&self, connection: &SiteConnection, place: &Place) {
        let from = connection.address();
        let asked = async {
            let (send, mut receive) = connection.accept().await?;
            Ok::<_, StreamError>((send, receive.receive_frame(REQUEST_BYTES_MAX).await?))
        };
        let (mut send, bytes) = match timeout(HELLO_WAIT, asked).await {
            Ok(Ok((send, Some(bytes)))) => (send, bytes),
            Ok(_) => return connection.close(Close::Garbage as u32, "the request cannot be read"),
            Err(_) => return connection.close(Close::Garbage as u32, "no request came in time"),
        };
        place.has_asked();
        let Ok(Ok(turn)) = timeout(TURN_WAIT, self.let_in.acquire()).await else { return crowded(connection) };
        let Ok(admitted) = timeout(HELLO_WAIT, self.admit(&bytes)).await else {
            return connection.close(Close::Busy as u32, "the site did not decide in time: try again in a moment");
        };
        drop(turn);
        let answer = match admitted {
            Ok(welcome) => {
                tracing::info!(%from, site = welcome.name, node = %welcome.node, "a site feeds this one from now on");
                Answer::Welcome(welcome)
            }
            Err(refusal) => {
                tracing::warn!(%from, why = %refusal, "a site may not feed this one");
                Answer::Refusal(refusal)
            }
        };
        let last_words = async {
            if send.send_frame(&invite::encode(&answer)).await.is_ok() {
                send.finish();
                send.stopped().await;
            }
        };
        let _ = timeout(LAST_WORDS_WAIT, last_words).await;
        connection.close(Close::Done as u32, "");
    }

    async fn admit(&self, bytes: &[u8]) -> Result<Welcome, Refusal> {
        let request = invite::decode::<Request>(bytes).filter(Request::is_sound);
        let request =
            request.ok_or_else(|| Refusal::new("invalid", "the request cannot be read: is one side newer?"))?;
        if request.protocol < PROTOCOL_MIN {
            return Err(Refusal::new("version", "the edge speaks an older version of links: upgrade it"));
        }
        if request.site == self.identity.site() {
            return Err(Refusal::new("own-site", "the edge is of this site itself"));
        }
        let node = id_of(&request.public_key);
        let (name, peer) = self.records.admit(&request, node).await?;
        let can_renew = request.protocol >= PROTOCOL_RENEWS;
        let made = self.certificates.give(peer, &name, &request.public_key, can_renew);
        let (certificate, ca) = made.map_err(|error| Refusal::new("invalid", error.to_string()))?;
        Ok(Welcome { name, link: peer.link, node, site: self.identity.site(), certificate, ca })
    }
}

/// Sends one away that has come with an invitation.
pub(super) fn crowded(connection: &SiteConnection) {
    connection.close(Close::Busy as u32, "others accept invitations right now: try again in a moment");
}

/// The id of an edge's node: one that asks again with the same key is the same.
fn id_of(public_key: &[u8]) -> NodeId {
    let digest = Sha256::digest(public_key);
    let id = digest.iter().take(8).fold(0_u64, |id, byte| id << 8 | u64::from(*byte));
    NodeId(id.max(1))
}
