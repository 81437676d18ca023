//! What is set of the site as a whole. Pure.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::device::{NAME_BYTES_MAX, is_name};
use super::encoding::{decode, encode};
use super::refusal::Class;
use super::state::State;
use super::write::Write;

/// The version byte before the stored site.
const VERSION: u8 = 1;

/// What a node does with the work of the site when it is cut off from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lease {
    /// It goes on.
    #[default]
    Run,
    /// It stops until it hears from them again.
    Pause,
}

/// The site. Stored as it is: a change of this struct makes a new version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Its id; random, and never another.
    pub id: u64,
    /// What people call it.
    pub name: String,
    /// What a node does that is cut off.
    pub lease: Lease,
}

/// What shall be otherwise of the site; `None` leaves it as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SiteUpdate {
    /// What people call it.
    pub name: Option<String>,
    /// What a node does that is cut off.
    pub lease: Option<Lease>,
}

/// Why a change of the site was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SiteRefusal {
    /// It cannot be a site's name.
    #[error("{0:?} cannot be a site's name: 1 to {NAME_BYTES_MAX} bytes of letters, digits and _ - . : / @")]
    Name(String),
    /// The node belongs to no site yet.
    #[error("the node belongs to no site yet; wait until it was let in")]
    None,
}

impl SiteRefusal {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Name(_) => "bad_request",
            Self::None => "no-site",
        }
    }

    pub(super) fn class(&self) -> Class {
        match self {
            Self::Name(_) => Class::Bad,
            Self::None => Class::Conflict,
        }
    }
}

impl Site {
    pub(super) fn encode(&self) -> Vec<u8> {
        encode(VERSION, self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        decode(VERSION, bytes)
    }

    /// As people and programs read it.
    pub fn json(&self) -> Json {
        json!({"id": format!("{:016x}", self.id), "name": self.name, "lease": self.lease})
    }
}

pub(super) fn judge_set(state: &State, update: &SiteUpdate) -> Result<Vec<Write>, SiteRefusal> {
    let before = state.site().ok_or(SiteRefusal::None)?;
    let name = update.name.clone().unwrap_or_else(|| before.name.clone());
    if !is_name(&name) {
        return Err(SiteRefusal::Name(name));
    }
    let lease = update.lease.unwrap_or(before.lease);
    Ok(vec![Write::Site(Arc::new(Site { id: before.id, name, lease }))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_site_has_these_bytes() {
        let site = Site { id: 1, name: "a".into(), lease: Lease::Pause };
        assert_eq!(site.encode(), [1, 1, 1, b'a', 1]);
        assert_eq!(Site::decode(&[1, 1, 1, b'a', 1]), Some(site));
    }
}
