//! One entry of what is set: what it says from now on, and how it is stored.

use std::sync::Arc;

use super::device::Device;
use super::level::{decode_level, encode_level};
use super::link::{AgreedLink, LinkToken};
use super::member::Member;
use super::plugin::AgreedPlugin;
use super::route::AgreedRoute;
use super::site::Site;
use super::token::{Token, TokenHash};
use super::topic::TopicRecord;
use super::work::{Assignment, TakeOver};
use crate::transport::NodeId;

/// What the key of a device begins with.
const DEVICE: &str = "device/";
/// What the key of a node begins with.
const MEMBER: &str = "member/";
/// What the key of a removed node begins with.
const REMOVED: &str = "removed/";
/// What the key of a join token begins with.
const TOKEN: &str = "token/";
/// What the key of a topic begins with.
const TOPIC: &str = "topic/";
/// What the key of an assignment begins with.
const ASSIGNMENT: &str = "assignment/";
/// What the key of a take-over begins with.
const TAKE_OVER: &str = "takeover/";
/// What the key of a plugin begins with.
const PLUGIN: &str = "plugin/";
/// What the key of a routing rule begins with.
const ROUTE: &str = "route/";
/// What the key of a link begins with.
const LINK: &str = "link/";
/// What the key of a link's token begins with.
const LINK_TOKEN: &str = "link-token/";
/// The key of the level.
const LEVEL: &str = "level";
/// The key of the site.
const SITE: &str = "site";
/// All that is stored of a removed node besides its id.
const REMOVED_VALUE: [u8; 1] = [1];

/// One entry of what is set, from now on. `None`: it is there no more.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// A device.
    Device(Arc<str>, Option<Arc<Device>>),
    /// A node.
    Member(NodeId, Option<Arc<Member>>),
    /// The id of a node that was removed.
    Removed(NodeId),
    /// A join token.
    Token(TokenHash, Option<Token>),
    /// A topic, or what is left of one that was deleted.
    Topic(Arc<str>, Arc<TopicRecord>),
    /// Which node runs a plugin on a partition number.
    Assignment(Arc<str>, u32, Option<Arc<Assignment>>),
    /// Who took over from an origin.
    TakeOver(u64, Option<Arc<TakeOver>>),
    /// The site.
    Site(Arc<Site>),
    /// A plugin.
    Plugin(Arc<str>, Option<Arc<AgreedPlugin>>),
    /// A routing rule.
    Route(Arc<str>, Option<Arc<AgreedRoute>>),
    /// A site that feeds this one.
    Link(Arc<str>, Arc<AgreedLink>),
    /// A token by which a gateway of such a site comes in.
    LinkToken(TokenHash, Option<LinkToken>),
    /// The level of the site.
    Level(u16),
}

impl Write {
    /// Under what it is stored.
    pub(super) fn key(&self) -> Vec<u8> {
        let key = match self {
            Self::Device(name, _) => format!("{DEVICE}{name}"),
            Self::Member(node, _) => format!("{MEMBER}{node}"),
            Self::Removed(node) => format!("{REMOVED}{node}"),
            Self::Token(hash, _) => format!("{TOKEN}{hash}"),
            Self::Topic(name, _) => format!("{TOPIC}{name}"),
            Self::Assignment(plugin, partition, _) => format!("{ASSIGNMENT}{plugin}/{partition:05}"),
            Self::TakeOver(origin, _) => format!("{TAKE_OVER}{origin:016x}"),
            Self::Site(_) => SITE.to_owned(),
            Self::Plugin(name, _) => format!("{PLUGIN}{name}"),
            Self::Route(name, _) => format!("{ROUTE}{name}"),
            Self::Link(name, _) => format!("{LINK}{name}"),
            Self::LinkToken(hash, _) => format!("{LINK_TOKEN}{hash}"),
            Self::Level(_) => LEVEL.to_owned(),
        };
        key.into_bytes()
    }

    /// What is stored; `None`: nothing any more.
    pub(super) fn value(&self) -> Option<Vec<u8>> {
        match self {
            Self::Device(_, device) => device.as_deref().map(Device::encode),
            Self::Member(_, member) => member.as_deref().map(Member::encode),
            Self::Removed(_) => Some(REMOVED_VALUE.to_vec()),
            Self::Token(_, token) => token.as_ref().map(Token::encode),
            Self::Topic(_, record) => Some(record.encode()),
            Self::Assignment(_, _, assignment) => assignment.as_deref().map(Assignment::encode),
            Self::TakeOver(_, take_over) => take_over.as_deref().map(TakeOver::encode),
            Self::Site(site) => Some(site.encode()),
            Self::Plugin(_, plugin) => plugin.as_deref().map(AgreedPlugin::encode),
            Self::Route(_, route) => route.as_deref().map(AgreedRoute::encode),
            Self::Link(_, link) => Some(link.encode()),
            Self::LinkToken(_, token) => token.as_ref().map(LinkToken::encode),
            Self::Level(level) => Some(encode_level(*level)),
        }
    }

    /// Reads a stored entry; `None` where it is of an unknown kind or version, or damaged.
    pub(super) fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let key = std::str::from_utf8(key).ok()?;
        if key == SITE {
            return Some(Self::Site(Arc::new(Site::decode(value)?)));
        }
        if key == LEVEL {
            return Some(Self::Level(decode_level(value)?));
        }
        let (kind, name) = key.split_at(key.find('/')? + 1);
        Some(match kind {
            DEVICE => Self::Device(name.into(), Some(Arc::new(Device::decode(value)?))),
            MEMBER => Self::Member(name.parse().ok()?, Some(Arc::new(Member::decode(value)?))),
            REMOVED if value == REMOVED_VALUE => Self::Removed(name.parse().ok()?),
            TOKEN => Self::Token(TokenHash::parse(name)?, Some(Token::decode(value)?)),
            TOPIC => Self::Topic(name.into(), Arc::new(TopicRecord::decode(value)?)),
            ASSIGNMENT => {
                let (plugin, partition) = name.rsplit_once('/')?;
                Self::Assignment(plugin.into(), partition.parse().ok()?, Some(Arc::new(Assignment::decode(value)?)))
            }
            TAKE_OVER => Self::TakeOver(u64::from_str_radix(name, 16).ok()?, Some(Arc::new(TakeOver::decode(value)?))),
            PLUGIN => Self::Plugin(name.into(), Some(Arc::new(AgreedPlugin::decode(value)?))),
            LINK => Self::Link(name.into(), Arc::new(AgreedLink::decode(value)?)),
            LINK_TOKEN => Self::LinkToken(TokenHash::parse(name)?, Some(LinkToken::decode(value)?)),
            ROUTE => Self::Route(name.into(), Some(Arc::new(AgreedRoute::decode(value)?))),
            _ => return None,
        })
    }
}
