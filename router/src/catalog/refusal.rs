//! Why a change was refused: a code that programs rely on, and a text that says what to do.

use devices::command::NameError;

use super::device::{ATTRIBUTES_MAX, NAME_BYTES_MAX, TAGS_MAX, TEXT_BYTES_MAX};
use super::level::LevelRefusal;
use super::link::LinkRefusal;
use super::member::MemberRefusal;
use super::plugin::PluginRefusal;
use super::route::RouteRefusal;
use super::site::SiteRefusal;
use super::token::TokenRefusal;
use super::topic::TopicRefusal;
use super::work::WorkRefusal;
use crate::event_log::{AppendError, CommitFailed};

/// Why a change was refused. Nothing was changed, unless it is [`Refusal::UnknownOutcome`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// It cannot be a device's name.
    #[error("{name:?} cannot be a device's name: {why}")]
    DeviceName {
        /// The name.
        name: String,
        /// Why.
        why: NameError,
    },
    /// It cannot be the name of a tag or an attribute.
    #[error("{0:?} cannot name a tag or an attribute: 1 to {NAME_BYTES_MAX} bytes of letters, digits and _ - . : / @")]
    Name(String),
    /// An attribute's value is out of its bounds.
    #[error(
        "attribute {0} cannot say that: a flag, a finite number, or text of at most {TEXT_BYTES_MAX} bytes without control characters"
    )]
    Value(String),
    /// More tags than a device may have.
    #[error("device {0} would have more than {TAGS_MAX} tags; remove some")]
    TooManyTags(String),
    /// More attributes than a device may have.
    #[error("device {0} would have more than {ATTRIBUTES_MAX} attributes; remove some")]
    TooManyAttributes(String),
    /// It is enrolled already.
    #[error("device {0} is enrolled already; change it with `edgeway device tag` and `edgeway device set`")]
    Exists(String),
    /// There is no such device.
    #[error("there is no device {0}; `edgeway device list` names what there is")]
    Unknown(String),
    /// There are as many devices as there may be.
    #[error("there are {0} devices in the catalog already, as many as [catalog] devices_max allows")]
    TooMany(usize),
    /// The devices take as much memory as they may.
    #[error("the catalog would take more than {0} bytes of memory, the bound of [catalog] bytes_max")]
    Full(usize),
    /// About a node of the site.
    #[error(transparent)]
    Member(#[from] MemberRefusal),
    /// About a join token.
    #[error(transparent)]
    Token(#[from] TokenRefusal),
    /// About a topic.
    #[error(transparent)]
    Topic(#[from] TopicRefusal),
    /// About an assignment or a take-over.
    #[error(transparent)]
    Work(#[from] WorkRefusal),
    /// About the site.
    #[error(transparent)]
    Site(#[from] SiteRefusal),
    /// About a plugin.
    #[error(transparent)]
    Plugin(#[from] PluginRefusal),
    /// About a routing rule.
    #[error(transparent)]
    Route(#[from] RouteRefusal),
    /// About a site that feeds this one.
    #[error(transparent)]
    Link(#[from] LinkRefusal),
    /// Not all nodes of the site know it.
    #[error(transparent)]
    Level(#[from] LevelRefusal),
    /// The change has more bytes than the log takes.
    #[error("the change has {0} bytes, more than the catalog takes at once; change less at once")]
    TooLarge(usize),
    /// Too few of the nodes that vote are heard. Nothing was changed.
    #[error("{}", no_majority(.missing))]
    NoMajority {
        /// Who votes and was not heard lately, by name; empty where no leader was found although they were heard.
        missing: Vec<String>,
    },
    /// It is not known whether the change was made, or will be.
    #[error("it is not known whether the change was made: the site did not answer in time; look before you ask again")]
    UnknownOutcome,
    /// The log took nothing.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// It did not become durable.
    #[error(transparent)]
    Commit(#[from] CommitFailed),
    /// The node takes no part in the consensus any more.
    #[error("this node takes no part in changes any more: {0}; start it again")]
    Stopped(String),
    /// The node stops.
    #[error("the node is stopping; try again later")]
    Stopping,
}

/// What kind of a refusal it is, for those who answer in a protocol with kinds of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// What was asked for cannot be.
    Bad,
    /// It cannot be as things are.
    Conflict,
    /// What it is about is not there.
    Unknown,
    /// A bound is reached.
    TooMuch,
    /// It may be later.
    Unavailable,
}

fn no_majority(missing: &[String]) -> String {
    let (who, then) = match missing {
        [] => ("no leader was found".to_owned(), ""),
        missing => (
            format!("not heard: {}", missing.join(", ")),
            "; where these are lost for good, `edgeway node promote --lost` lets this node decide alone",
        ),
    };
    format!(
        "the site has no majority, so nothing can be changed now ({who}); see that the nodes reach each other{then}"
    )
}

impl Refusal {
    /// A word that programs may rely on.
    pub fn code(&self) -> &'static str {
        match self {
            Self::DeviceName { .. } | Self::Name(_) | Self::Value(_) => "bad_request",
            Self::TooManyTags(_) => "too_many_tags",
            Self::TooManyAttributes(_) => "too_many_attributes",
            Self::Exists(_) => "conflict",
            Self::Unknown(_) => "not_found",
            Self::TooMany(_) => "too_many_devices",
            Self::Full(_) => "catalog_full",
            Self::Member(why) => why.code(),
            Self::Token(why) => why.code(),
            Self::Topic(why) => why.code(),
            Self::Work(why) => why.code(),
            Self::Site(why) => why.code(),
            Self::Plugin(why) => why.code(),
            Self::Route(why) => why.code(),
            Self::Link(why) => why.code(),
            Self::Level(why) => why.code(),
            Self::TooLarge(_) => "too-large",
            Self::NoMajority { .. } => "no-majority",
            Self::UnknownOutcome => "unknown-outcome",
            Self::Append(_) | Self::Commit(_) | Self::Stopped(_) | Self::Stopping => "unavailable",
        }
    }

    /// What kind of a refusal it is.
    pub fn class(&self) -> Class {
        match self {
            Self::DeviceName { .. } | Self::Name(_) | Self::Value(_) | Self::TooLarge(_) => Class::Bad,
            Self::TooManyTags(_) | Self::TooManyAttributes(_) => Class::Bad,
            Self::Exists(_) => Class::Conflict,
            Self::Unknown(_) => Class::Unknown,
            Self::TooMany(_) | Self::Full(_) => Class::TooMuch,
            Self::Member(why) => why.class(),
            Self::Token(why) => why.class(),
            Self::Topic(why) => why.class(),
            Self::Work(why) => why.class(),
            Self::Site(why) => why.class(),
            Self::Plugin(why) => why.class(),
            Self::Route(why) => why.class(),
            Self::Link(why) => why.class(),
            Self::Level(why) => why.class(),
            Self::NoMajority { .. } | Self::UnknownOutcome => Class::Unavailable,
            Self::Append(_) | Self::Commit(_) | Self::Stopped(_) | Self::Stopping => Class::Unavailable,
        }
    }
}
