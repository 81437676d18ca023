//! Changes by people: checked, decided, durable when the call returns.

use std::sync::atomic::Ordering::Relaxed;

use devices::command::{NameError, check_device_name};
use devices::twin::{Act, Document, Half, Refusal, Versions};

use super::read::follow;
use super::record::{Outcome, RecordError};
use super::table::Request;
use super::{OpenError, Twins};
use crate::event_log::{AppendError, CommitFailed, Ticket};

/// How often a change is decided anew because the store failed in between.
const ATTEMPTS_MAX: usize = 3;

/// What a person wants a device to be.
#[derive(Debug, Clone)]
pub struct Set {
    /// The merge patch of what is desired, or all of it.
    pub document: Document,
    /// Whether it is all of it.
    pub replace: bool,
    /// The desired version that it is meant for.
    pub if_version: Option<u64>,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum TwinError {
    /// The device's name cannot be in an MQTT topic.
    #[error("device {name:?}: {why}")]
    Device {
        /// What was given.
        name: String,
        /// What is wrong with it.
        why: NameError,
    },
    /// It was decided against.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The twins in memory could not be brought in line with the store.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The log did not take it.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// It did not become durable.
    #[error(transparent)]
    Commit(#[from] CommitFailed),
    /// Commits failed again and again.
    #[error("the store failed again and again meanwhile; try again later")]
    Unsettled,
}

impl Twins {
    /// Sets what is desired of a device; when this returns, it is durable, and the device is told as soon as it
    /// listens. A change that changes nothing leaves the version as it is.
    ///
    /// # Errors
    /// Why it was not made.
    pub async fn set_desired(&self, device: &str, set: Set, who: &str) -> Result<Versions, TwinError> {
        let Set { document, replace, if_version } = set;
        let act = match replace {
            true => Act::Replaced { half: Half::Desired, version: 0, document },
            false => Act::Patched { half: Half::Desired, version: 0, patch: document },
        };
        self.make("twin.set", Request { device, act: &act, if_version, who }).await
    }

    /// Deletes a twin, durably; `if_version` is the desired version that is meant.
    ///
    /// # Errors
    /// Why it was not deleted.
    pub async fn delete(&self, device: &str, if_version: Option<u64>, who: &str) -> Result<(), TwinError> {
        self.make("twin.delete", Request { device, act: &Act::Deleted, if_version, who }).await.map(drop)
    }

    async fn make(&self, name: &'static str, request: Request<'_>) -> Result<Versions, TwinError> {
        let device = request.device;
        check_device_name(device).map_err(|why| TwinError::Device { name: device.to_owned(), why })?;
        for _ in 0..ATTEMPTS_MAX {
            self.refresh().await?;
            let (versions, ticket) = match self.decide(name, request) {
                Ok(decided) => decided,
                Err(TwinError::Unsettled) => continue,
                Err(error) => return Err(error),
            };
            if let Some(ticket) = ticket {
                self.log.durable(ticket).await.inspect_err(|_| self.reports.arrived.notify_one())?;
            }
            self.changed.send_modify(|count| *count += 1);
            self.reports.arrived.notify_one();
            return Ok(versions);
        }
        Err(TwinError::Unsettled)
    }

    /// Decides, and puts what follows into the open commit; the commit that must be durable first.
    fn decide(&self, name: &'static str, request: Request<'_>) -> Result<(Versions, Option<Ticket>), TwinError> {
        let mut inner = self.inner.lock();
        if inner.is_stale {
            return Err(TwinError::Unsettled);
        }
        let decided = inner.table.change(request, self.moment());
        let outcome = Outcome::of(request.who, name, request.device, &decided);
        let accepted = match decided {
            Ok(accepted) => accepted,
            Err(refusal) => {
                self.stats.refused.fetch_add(1, Relaxed);
                drop(inner);
                if let Err(error) = self.log.audit(outcome.act()) {
                    tracing::error!(%error, "an act on a twin is not in the audit");
                }
                return Err(refusal.into());
            }
        };
        if !accepted.is_change {
            self.stats.unchanged.fetch_add(1, Relaxed);
            return Ok((accepted.versions, inner.newest));
        }
        let ticket = self.record(&mut inner, vec![outcome]).map_err(|error| match error {
            RecordError::Stale => TwinError::Unsettled,
            RecordError::Append(error) => error.into(),
        })?;
        match request.act {
            Act::Deleted => self.stats.deleted.fetch_add(1, Relaxed),
            _ => self.stats.desired.fetch_add(1, Relaxed),
        };
        let inner = &mut *inner;
        follow(&inner.table, &mut inner.courier, request.device, accepted);
        Ok((accepted.versions, Some(ticket)))
    }
}
