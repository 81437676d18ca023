//! What people may change, and what a change comes to. Pure: the same state and the same change give the same answer
//! on every node.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::device::Value;
use super::level;
use super::link::{self, AgreedLink, LINK_TOKEN_LIFE_MS};
use super::member::{self, MemberUpdate, NewMember};
use super::plugin::{self, NewPlugin};
use super::refusal::Refusal;
use super::route::{self, NewRoute};
use super::site::{self, SiteUpdate};
use super::state::State;
use super::token::{self, TokenHash};
use super::topic::{self, Ack, TopicSettings, TopicUpdate};
use super::work;
use super::write::Write;
use super::{Config, device_change};
use crate::security::JOIN_TOKEN_LIFETIME;
use crate::transport::NodeId;

/// A change of what people set. It goes to the other nodes as it is: kinds are added at the end, none is changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// Enrols a device.
    AddDevice {
        /// Its name.
        device: String,
        /// Its tags; those that it has stay.
        tags: BTreeSet<String>,
        /// Its attributes; others that it has stay.
        attributes: BTreeMap<String, Value>,
        /// Whether it refuses a command whose id it has seen; `None` leaves it as it is.
        refuses_repeats: Option<bool>,
    },
    /// Takes a device and all that was set of it out of the catalog.
    RemoveDevice {
        /// Its name.
        device: String,
    },
    /// Adds and removes tags.
    SetTags {
        /// The device.
        device: String,
        /// Tags that it shall have.
        add: BTreeSet<String>,
        /// Tags that it shall not have.
        remove: BTreeSet<String>,
        /// It was seen: where the catalog does not have it, it comes in without being enrolled.
        seen: bool,
    },
    /// Sets and removes attributes.
    SetAttributes {
        /// The device.
        device: String,
        /// What each attribute shall say; `None` removes it.
        set: BTreeMap<String, Option<Value>>,
        /// Whether it refuses a command whose id it has seen: `Some(None)`: nobody says; `None` leaves it as it is.
        refuses_repeats: Option<Option<bool>>,
        /// As for [`Self::SetTags`].
        seen: bool,
    },
    /// Lets a node in.
    AddMember(NewMember),
    /// Changes what is set of a node.
    UpdateMember {
        /// The node.
        node: NodeId,
        /// What shall be otherwise.
        update: MemberUpdate,
    },
    /// Takes a node out of the site for good.
    RemoveMember {
        /// The node.
        node: NodeId,
    },
    /// Makes a join token known.
    IssueToken {
        /// Its hash.
        hash: TokenHash,
        /// Until when it is good, in milliseconds since 1970.
        expires_at_ms: i64,
    },
    /// Uses a join token up.
    UseToken {
        /// Its hash.
        hash: TokenHash,
        /// The node that comes in by it.
        by: NodeId,
    },
    /// Creates a topic.
    CreateTopic {
        /// Its id, the same on every node.
        id: u64,
        /// Its name.
        name: String,
        /// What it is set to.
        settings: TopicSettings,
        /// When its events are acknowledged.
        ack: Ack,
    },
    /// Changes what a topic is set to.
    SetTopic {
        /// Its name.
        name: String,
        /// What shall be otherwise.
        update: TopicUpdate,
    },
    /// Deletes a topic.
    DeleteTopic {
        /// Its name.
        name: String,
    },
    /// Says which node runs a plugin on a partition number.
    SetAssignment {
        /// The plugin.
        plugin: String,
        /// The partition number.
        partition: u32,
        /// The node.
        node: NodeId,
        /// Higher than that of the assignment before; the first is 1.
        term: u64,
    },
    /// Says who reads on what a lost node has left unread.
    TakeOver {
        /// The life of the lost node's store.
        origin: u64,
        /// The first commit that is read anew.
        from_commit: u64,
        /// The node that reads it.
        by: NodeId,
        /// Higher than that of the take-over before; the first is 1.
        term: u64,
    },
    /// Changes what is set of the site.
    SetSite(SiteUpdate),
    /// Says that the node of an origin is back, and reads its own again.
    GiveBack {
        /// The life of its store.
        origin: u64,
        /// The term of the take-over that ends.
        term: u64,
    },
    /// Deploys a plugin, or a new version of one, on all nodes.
    DeployPlugin(NewPlugin),
    /// Removes a plugin from all nodes.
    RemovePlugin {
        /// Its name.
        name: String,
    },
    /// Raises the level of the site: all its nodes know the changes up to it.
    RaiseLevel {
        /// The level.
        to: u16,
    },
    /// Sets a routing rule.
    SetRoute {
        /// Its name.
        name: String,
        /// What it says from now on.
        route: NewRoute,
    },
    /// Deletes a routing rule.
    DeleteRoute {
        /// Its name.
        name: String,
    },
    /// Changes what a plugin may do.
    GrantPlugin {
        /// Its name.
        name: String,
        /// The version whose grants were looked at; it is refused where there is another one.
        version: u64,
        /// Its manifest with the new grants, as TOML.
        manifest: String,
    },
    /// Forgets who took over from an origin that is gone.
    ForgetOrigin {
        /// The life that has ended.
        origin: u64,
        /// The term of its newest take-over.
        term: u64,
    },
    /// Forgets which nodes ran a plugin that was removed.
    ForgetAssignments {
        /// The plugin.
        plugin: String,
    },
    /// Makes a token known by which a gateway of another site may feed this one.
    InviteLink {
        /// What that site is called here.
        name: String,
        /// The token's hash.
        hash: TokenHash,
        /// Until when it is good, in milliseconds since 1970.
        expires_at_ms: i64,
    },
    /// Lets a gateway of another site in.
    AcceptLink {
        /// The token's hash.
        hash: TokenHash,
        /// The gateway's id.
        node: NodeId,
        /// What people call it.
        node_name: String,
        /// The id of the link, where its site is new.
        link: u64,
    },
    /// Removes a link: nothing more comes by it.
    RemoveLink {
        /// Its name.
        name: String,
    },
    /// Says what one node had kept of a link for itself.
    ImportLink {
        /// Its name.
        name: String,
        /// What was kept.
        link: AgreedLink,
    },
}

/// What a change came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// All that is otherwise from now on.
    pub writes: Vec<Write>,
}

/// By what a change is judged besides the state. The leader says it once, so that it is the same on every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    /// When the leader took the change, in milliseconds since 1970 by its clock.
    pub(super) at_ms: i64,
    /// The change's place among all changes.
    pub(super) index: u64,
    /// The leader's bound of devices.
    pub(super) devices_max: usize,
    /// The leader's bound of their bytes.
    pub(super) bytes_max: usize,
}

impl Terms {
    pub(super) fn new(config: &Config, at_ms: i64, index: u64) -> Self {
        Self { at_ms, index, devices_max: config.devices_max, bytes_max: config.bytes_max }
    }
}

impl Change {
    /// What it is called in the audit.
    pub fn act(&self) -> &'static str {
        match self {
            Self::AddDevice { .. } => "device.add",
            Self::RemoveDevice { .. } => "device.remove",
            Self::SetTags { .. } => "device.tag",
            Self::SetAttributes { .. } => "device.set",
            Self::AddMember(_) => "node.add",
            Self::UpdateMember { .. } => "node.update",
            Self::RemoveMember { .. } => "node.remove",
            Self::IssueToken { .. } => "token.issue",
            Self::UseToken { .. } => "token.use",
            Self::CreateTopic { .. } => "topic.create",
            Self::SetTopic { .. } => "topic.set",
            Self::DeleteTopic { .. } => "topic.delete",
            Self::SetAssignment { .. } => "work.assign",
            Self::TakeOver { .. } => "work.take_over",
            Self::GiveBack { .. } => "work.give_back",
            Self::SetSite(_) => "site.set",
            Self::DeployPlugin(_) => "plugin.deploy",
            Self::RemovePlugin { .. } => "plugin.remove",
            Self::RaiseLevel { .. } => "site.level",
            Self::SetRoute { .. } => "route.set",
            Self::DeleteRoute { .. } => "route.delete",
            Self::GrantPlugin { .. } => "plugin.grant",
            Self::ForgetOrigin { .. } => "work.forget_origin",
            Self::ForgetAssignments { .. } => "work.forget",
            Self::InviteLink { .. } => "link.invite",
            Self::AcceptLink { .. } => "link.accept",
            Self::RemoveLink { .. } => "link.remove",
            Self::ImportLink { .. } => "link.import",
        }
    }

    /// What it is about, as the audit names it.
    pub fn what(&self) -> String {
        match self {
            Self::AddDevice { device, .. }
            | Self::RemoveDevice { device }
            | Self::SetTags { device, .. }
            | Self::SetAttributes { device, .. } => device.clone(),
            Self::AddMember(new) => new.node.to_string(),
            Self::UpdateMember { node, .. } | Self::RemoveMember { node } => node.to_string(),
            Self::IssueToken { hash, .. } | Self::UseToken { hash, .. } => hash.brief(),
            Self::CreateTopic { name, .. } | Self::SetTopic { name, .. } | Self::DeleteTopic { name } => name.clone(),
            Self::SetAssignment { plugin, partition, .. } => format!("{plugin}/{partition}"),
            Self::TakeOver { origin, .. } | Self::GiveBack { origin, .. } | Self::ForgetOrigin { origin, .. } => {
                format!("{origin:016x}")
            }
            Self::SetSite(_) | Self::RaiseLevel { .. } => "site".to_owned(),
            Self::DeployPlugin(NewPlugin { name, .. })
            | Self::RemovePlugin { name }
            | Self::GrantPlugin { name, .. }
            | Self::ForgetAssignments { plugin: name }
            | Self::SetRoute { name, .. }
            | Self::DeleteRoute { name }
            | Self::InviteLink { name, .. }
            | Self::RemoveLink { name }
            | Self::ImportLink { name, .. } => name.clone(),
            Self::AcceptLink { node, .. } => node.to_string(),
        }
    }

    /// As the leader writes it down: how long a token is good counts by the leader's clock, whatever the clock of the node says that was
    /// asked for it.
    pub(super) fn settled(self, terms: &Terms) -> Self {
        match self {
            Self::IssueToken { hash, .. } => {
                let life_ms = i64::try_from(JOIN_TOKEN_LIFETIME.as_millis()).unwrap_or(i64::MAX);
                Self::IssueToken { hash, expires_at_ms: terms.at_ms.saturating_add(life_ms) }
            }
            Self::InviteLink { name, hash, .. } => {
                Self::InviteLink { name, hash, expires_at_ms: terms.at_ms.saturating_add(LINK_TOKEN_LIFE_MS) }
            }
            other => other,
        }
    }

    /// What it would come to.
    ///
    /// # Errors
    /// Why it cannot be.
    pub(super) fn judge(&self, state: &State, terms: &Terms) -> Result<Applied, Refusal> {
        level::check(state, self)?;
        let writes = match self {
            Self::AddDevice { device, .. }
            | Self::RemoveDevice { device }
            | Self::SetTags { device, .. }
            | Self::SetAttributes { device, .. } => device_change::judge(self, device, state.devices(), terms)?,
            Self::AddMember(new) => member::judge_add(state, new, terms)?,
            Self::UpdateMember { node, update } => member::judge_update(state, *node, update)?,
            Self::RemoveMember { node } => member::judge_remove(state, *node)?,
            Self::IssueToken { hash, expires_at_ms } => token::judge_issue(state, *hash, *expires_at_ms, terms)?,
            Self::UseToken { hash, by } => token::judge_use(state, *hash, *by, terms)?,
            Self::CreateTopic { id, name, settings, ack } => {
                topic::judge_create(state, name, *id, settings, *ack, terms)?
            }
            Self::SetTopic { name, update } => topic::judge_set(state, name, update)?,
            Self::DeleteTopic { name } => topic::judge_delete(state, name)?,
            Self::SetAssignment { plugin, partition, node, term } => {
                work::judge_assignment(state, plugin, *partition, (*node, *term))?
            }
            Self::TakeOver { origin, from_commit, by, term } => {
                work::judge_take_over(state, *origin, (*from_commit, *by, *term))?
            }
            Self::GiveBack { origin, term } => work::judge_return(state, *origin, *term)?,
            Self::SetSite(update) => site::judge_set(state, update)?,
            Self::DeployPlugin(new) => plugin::judge_deploy(state, new, terms)?,
            Self::RemovePlugin { name } => plugin::judge_remove(state, name)?,
            Self::RaiseLevel { to } => level::judge_raise(state, *to)?,
            Self::SetRoute { name, route } => route::judge_set(state, name, route, terms)?,
            Self::DeleteRoute { name } => route::judge_delete(state, name)?,
            Self::GrantPlugin { name, version, manifest } => plugin::judge_grant(state, name, *version, manifest)?,
            Self::ForgetOrigin { origin, term } => work::judge_forget_origin(state, *origin, *term)?,
            Self::ForgetAssignments { plugin } => work::judge_forget_assignments(state, plugin)?,
            Self::InviteLink { name, hash, expires_at_ms } => {
                link::judge_invite(state, name, *hash, *expires_at_ms, terms)?
            }
            Self::AcceptLink { hash, node, node_name, link } => {
                link::judge_accept(state, *hash, (*node, node_name), *link, terms)?
            }
            Self::RemoveLink { name } => link::judge_remove(state, name)?,
            Self::ImportLink { name, link } => link::judge_import(state, name, link)?,
        };
        Ok(Applied { writes })
    }
}
