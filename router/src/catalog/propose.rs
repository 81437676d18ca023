//! Makes a change durable, and then true: one commit with the entry, the event and the act.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::change::{Applied, Change, Refusal};
use super::device::Device;
use super::{CATALOG_TREE, Catalog, DEVICE_PREFIX};
use crate::event_log::{Act, EventLog, NO_HEADERS, NewEvent, Ticket};

/// The version of the events that are written.
const VERSION: u8 = 1;

/// An event on the topic of changes.
#[derive(Serialize)]
struct CatalogEvent<'a> {
    v: u8,
    at_ms: i64,
    who: &'a str,
    act: &'a str,
    device: &'a str,
    /// All that is set of it from now on; null: it was removed.
    set: Option<&'a Device>,
}

impl Catalog {
    /// Has a change made, for `who` (`cli`, `api`). Durable, and true for all readers, on return. Once begun it goes on
    /// although the caller goes away.
    ///
    /// # Errors
    /// Why it was refused; nothing was changed then.
    pub async fn propose(self: &Arc<Self>, change: Change, who: &str) -> Result<Applied, Refusal> {
        let (catalog, who) = (Arc::clone(self), who.to_owned());
        let task = tokio::spawn(async move {
            let made = catalog.make(&change, &who).await;
            if let Err(refusal) = &made {
                note_refusal(&catalog.log, &change, &who, refusal);
            }
            made
        });
        // It can only end otherwise where the runtime ends.
        task.await.unwrap_or(Err(Refusal::Stopping))
    }

    async fn make(&self, change: &Change, who: &str) -> Result<Applied, Refusal> {
        let _turn = self.changing.lock().await;
        let at_ms = self.log.clock().wall_ms();
        let applied = change.judge(&self.devices.read(), &self.config, at_ms)?;
        let ticket = self.append(change, &applied, who, at_ms)?;
        self.log.durable(ticket).await?;
        self.devices.write().apply(&applied);
        Ok(applied)
    }

    fn append(&self, change: &Change, applied: &Applied, who: &str, at_ms: i64) -> Result<Ticket, Refusal> {
        let (name, act) = (&*applied.name, change.act());
        let set = applied.device.as_deref();
        let event = CatalogEvent { v: VERSION, at_ms, who, act, device: name, set };
        let value = serde_json::to_vec(&event).unwrap_or_default();
        let new = NewEvent {
            timestamp_ms: at_ms,
            key: Some(name.as_bytes()),
            value: Some(&value),
            headers: &NO_HEADERS,
            extra: &NO_HEADERS,
            fanned_out: true,
        };
        let mut open = self.log.lock();
        open.append_keyed(&self.topic, &new)?;
        open.audit(Act { who, act, what: name, outcome: "done", detail: detail(change) })?;
        // The bounds of names and values are far beneath those of the store.
        let stored = set.map(Device::encode);
        open.put_state(CATALOG_TREE, format!("{DEVICE_PREFIX}{name}").as_bytes(), stored.as_deref());
        Ok(open.ticket())
    }
}

/// What the audit says of a change besides its device: what was asked for.
fn detail(change: &Change) -> Json {
    match change {
        Change::AddDevice { tags, attributes, refuses_repeats, .. } => {
            json!({"tags": tags, "attributes": attributes, "refuses_repeats": refuses_repeats})
        }
        Change::RemoveDevice { .. } => Json::Null,
        Change::SetTags { add, remove, .. } => json!({"add": add, "remove": remove}),
        Change::SetAttributes { set, refuses_repeats: None, .. } => json!({"set": set}),
        Change::SetAttributes { set, refuses_repeats: Some(flag), .. } => {
            json!({"set": set, "refuses_repeats": flag})
        }
    }
}

/// What was asked for is not said: it may be of any size.
fn note_refusal(log: &EventLog, change: &Change, who: &str, refusal: &Refusal) {
    let act = Act { who, act: change.act(), what: change.device(), outcome: refusal.code(), detail: Json::Null };
    if let Err(error) = log.audit(act) {
        tracing::warn!(%error, act = change.act(), device = change.device(), "a refusal is not in the audit");
    }
}
