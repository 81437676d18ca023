//! The edge's side of a certificate's renewal: asks upstream for a new one when upstream says that it is time, and keeps it.
//!
//! The key is new each time, and stored together with its certificate or not at all. A crash before that leaves the old ones, which
//! upstream takes still.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::dial::Dialler;
use super::wire::{Answer, Said};
use crate::transport::{LinkIdentity, NodeKey, SiteConnection, StreamError};

/// How long upstream may take for a new certificate.
const ANSWER_WAIT: Duration = Duration::from_secs(60);
/// Bytes of its answer.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// How long until it is asked again where that failed: a third of a lifetime is left for it.
const AGAIN_AFTER: Duration = Duration::from_secs(600);
/// The longest wait, seconds: upstream says another time before.
const AFTER_S_MAX: u64 = 7 * 24 * 3_600;
/// Between two asks, whatever upstream says.
const APART: Duration = Duration::from_secs(5);

/// When upstream is to be asked, as it said last, seconds after that. `None`: it has not said anything.
pub type Due = watch::Sender<Option<u64>>;

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Site(#[from] crate::transport::SiteError),
    #[error(transparent)]
    Wire(#[from] super::wire::WireError),
    #[error("upstream did not answer in time")]
    Late,
    #[error("upstream gave none")]
    None,
    #[error("the link was removed meanwhile")]
    Removed,
    #[error("the node is stopping")]
    Stopping,
}

impl Dialler {
    /// Asks for new certificates as long as a connection stands.
    pub(super) async fn keep_renewed(&self, connection: &SiteConnection, due: &Due) {
        let (mut told, mut earliest) = (due.subscribe(), Instant::now());
        loop {
            let Some(after) = *told.borrow_and_update() else {
                if told.changed().await.is_err() {
                    return;
                }
                continue;
            };
            tokio::select! {
                () = sleep_until(earliest.max(Instant::now() + Duration::from_secs(after.min(AFTER_S_MAX)))) => {}
                changed = told.changed() => if changed.is_err() { return } else { continue },
            }
            let renewed = timeout(ANSWER_WAIT, self.renew(connection)).await.unwrap_or(Err(RenewError::Late));
            let again = renewed.unwrap_or_else(|error| {
                tracing::warn!(link = self.name, %error, "the link's certificate is not renewed yet");
                AGAIN_AFTER.as_secs()
            });
            earliest = Instant::now() + APART;
            due.send_replace(Some(again));
        }
    }

    /// Asks once; after how many seconds to ask again.
    async fn renew(&self, connection: &SiteConnection) -> Result<u64, RenewError> {
        let key = NodeKey::draw()?;
        let (mut out, mut from) = connection.open().await?;
        out.send_frame(&Said::Renew(key.public().to_vec()).encode()).await?;
        let frame = from.receive_frame(ANSWER_BYTES_MAX).await?.ok_or(RenewError::None)?;
        match Answer::decode(&frame)? {
            // It is not due any more, or the clock there was set.
            Answer::Due(after) => Ok(after),
            Answer::Renewed(certificate, after) => {
                self.take(certificate, key).await?;
                Ok(after)
            }
            _ => Err(RenewError::None),
        }
    }

    /// Keeps the new one, from the next connection on.
    async fn take(&self, certificate: String, key: NodeKey) -> Result<(), RenewError> {
        let (before, place) = (Arc::clone(&self.identity.lock()), Arc::clone(&self.place));
        let renew = move || place.write(|folder| before.renew(folder, &certificate, &key));
        let kept = tokio::task::spawn_blocking(renew).await;
        let renewed: LinkIdentity = kept.map_err(|_| RenewError::Stopping)?.ok_or(RenewError::Removed)??;
        self.page.lock().certificate_until_s = renewed.until_s();
        *self.identity.lock() = Arc::new(renewed);
        tracing::info!(link = self.name, "the link has a new certificate");
        Ok(())
    }
}
