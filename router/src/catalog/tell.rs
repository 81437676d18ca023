//! What becomes an event on the topic of changes and an act in the audit.

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::change::{Applied, Change};
use super::refusal::Refusal;
use super::write::Write;
use crate::event_log::{Act, AppendError, EventLog, NO_HEADERS, NewEvent, OpenCommit, Topic};

/// The version of the events that are written.
const VERSION: u8 = 1;
/// Who is named where no person or program asked for a change: the site itself.
pub(super) const SITE: &str = "site";

/// An event on the topic of changes.
#[derive(Serialize)]
struct CatalogEvent<'a> {
    v: u8,
    at_ms: i64,
    who: &'a str,
    act: &'a str,
    /// What it is about, where that is a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
    /// What it is about, where that is anything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<&'a str>,
    /// All that is set of it from now on; null: it was removed.
    set: &'a Json,
}

/// What has happened.
pub(super) struct Told<'a> {
    /// When, in milliseconds since 1970.
    pub(super) at_ms: i64,
    /// Who asked for it.
    pub(super) who: &'a str,
    /// What was done.
    pub(super) act: &'a str,
    /// To what.
    pub(super) what: &'a str,
    /// Whether that is a device.
    pub(super) is_device: bool,
    /// All that is set of it from now on.
    pub(super) set: Json,
    /// What was asked for.
    pub(super) detail: Json,
}

impl Told<'_> {
    /// Writes the event and the act with this commit.
    ///
    /// # Errors
    /// When a topic was deleted by hand or the event is too large; what was set is true all the same.
    pub(super) fn write(&self, open: &mut OpenCommit<'_>, topic: &Topic) -> Result<(), AppendError> {
        let Self { at_ms, who, act, what, is_device, ref set, ref detail } = *self;
        let (device, other) = if is_device { (Some(what), None) } else { (None, Some(what)) };
        let event = CatalogEvent { v: VERSION, at_ms, who, act, device, what: other, set };
        let value = serde_json::to_vec(&event).unwrap_or_default();
        let new = NewEvent {
            timestamp_ms: at_ms,
            key: Some(what.as_bytes()),
            value: Some(&value),
            headers: &NO_HEADERS,
            extra: &NO_HEADERS,
            fanned_out: true,
        };
        let told = open.append_keyed(topic, &new);
        told.and(open.audit(Act { who, act, what, outcome: "done", detail: detail.clone() }))
    }
}

/// That the changes between two places are told of by nobody here: the whole state came in their place.
pub(super) fn gap(at_ms: i64, (from, to): (u64, u64)) -> Told<'static> {
    let span = json!({"from": from, "to": to});
    Told { at_ms, who: SITE, act: "catalog.gap", what: "catalog", is_device: false, set: span.clone(), detail: span }
}

/// What is set from now on of that which a change is about.
pub(super) fn set(change: &Change, applied: &Applied) -> Json {
    // What a change is about comes last, but for a removed node, whose id comes after it.
    let about = match change {
        Change::RemoveMember { .. } => None,
        _ => applied.writes.last(),
    };
    match about {
        Some(Write::Device(_, device)) => serde_json::to_value(device.as_deref()).unwrap_or_default(),
        Some(Write::Member(_, member)) => member.as_ref().map_or(Json::Null, |member| member.json()),
        Some(Write::Token(_, Some(token))) => {
            json!({"expires_at_ms": token.expires_at_ms, "used_by": token.used_by.map(|node| node.to_string())})
        }
        Some(Write::Topic(_, record)) => record.json(),
        Some(Write::Assignment(_, _, set)) => set.as_ref().map_or(Json::Null, |set| set.json()),
        Some(Write::TakeOver(_, taken)) => taken.as_ref().map_or(Json::Null, |taken| taken.json()),
        Some(Write::Site(site)) => site.json(),
        Some(Write::Plugin(_, plugin)) => plugin.as_ref().map_or(Json::Null, |plugin| plugin.json()),
        Some(Write::Route(_, route)) => route.as_ref().map_or(Json::Null, |route| route.json()),
        Some(Write::Level(level)) => json!({"level": level}),
        Some(Write::Link(_, link)) => link.json(),
        Some(Write::LinkToken(_, Some(token))) => {
            json!({"expires_at_ms": token.expires_at_ms, "used_by": token.used_by.map(|node| node.to_string())})
        }
        Some(Write::Removed(_) | Write::Token(_, None) | Write::LinkToken(_, None)) | None => Json::Null,
    }
}

/// What the audit says of a change besides what it is about: what was asked for, and of a plugin what came of it.
pub(super) fn detail(change: &Change, applied: &Applied) -> Json {
    match change {
        Change::AddDevice { tags, attributes, refuses_repeats, .. } => {
            json!({"tags": tags, "attributes": attributes, "refuses_repeats": refuses_repeats})
        }
        Change::SetTags { add, remove, .. } => json!({"add": add, "remove": remove}),
        Change::SetAttributes { set, refuses_repeats: None, .. } => json!({"set": set}),
        Change::SetAttributes { set, refuses_repeats: Some(flag), .. } => {
            json!({"set": set, "refuses_repeats": flag})
        }
        Change::AddMember(new) => json!({"name": new.name, "address": new.address, "version": new.version}),
        Change::UpdateMember { update, .. } => json!(update),
        Change::IssueToken { expires_at_ms, .. } => json!({"expires_at_ms": expires_at_ms}),
        Change::UseToken { by, .. } => json!({"by": by.to_string()}),
        Change::CreateTopic { settings, ack, .. } => json!({"settings": settings, "ack": ack}),
        Change::SetTopic { update, .. } => json!(update),
        Change::SetAssignment { node, term, .. } => json!({"node": node.to_string(), "term": term}),
        Change::TakeOver { from_commit, by, term, .. } => {
            json!({"from_commit": from_commit, "by": by.to_string(), "term": term})
        }
        Change::GiveBack { term, .. } => json!({"term": term}),
        Change::SetSite(update) => json!(update),
        Change::RaiseLevel { to } => json!({"to": to}),
        Change::SetRoute { route, .. } => json!(route),
        Change::ForgetOrigin { term, .. } => json!({"term": term}),
        Change::InviteLink { expires_at_ms, .. } => json!({"expires_at_ms": expires_at_ms}),
        Change::AcceptLink { node_name, .. } => json!({"name": node_name}),
        Change::ImportLink { link, .. } => link.json(),
        Change::RemoveLink { .. } => Json::Null,
        Change::DeployPlugin(_) | Change::GrantPlugin { .. } => match applied.writes.last() {
            Some(Write::Plugin(_, Some(plugin))) => plugin.detail(),
            _ => Json::Null,
        },
        Change::RemoveDevice { .. } | Change::RemoveMember { .. } => Json::Null,
        Change::DeleteTopic { .. } | Change::RemovePlugin { .. } => Json::Null,
        Change::DeleteRoute { .. } | Change::ForgetAssignments { .. } => Json::Null,
    }
}

/// Whether a change is about a device.
pub(super) fn is_device(change: &Change) -> bool {
    matches!(
        change,
        Change::AddDevice { .. } | Change::RemoveDevice { .. } | Change::SetTags { .. } | Change::SetAttributes { .. }
    )
}

/// Writes a refusal into the audit; durable on return. What was asked for is not said: it may be of any size.
pub(super) async fn note_refusal(log: &EventLog, change: &Change, who: &str, refusal: &Refusal) {
    let what = change.what();
    let act = Act { who, act: change.act(), what: &what, outcome: refusal.code(), detail: Json::Null };
    let told = match log.audit(act) {
        Ok(ticket) => log.durable(ticket).await.map_err(AppendError::Refused),
        Err(error) => Err(error),
    };
    if let Err(error) = told {
        tracing::warn!(%error, act = change.act(), what, "a refusal is not in the audit");
    }
}
