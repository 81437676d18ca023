//! A node as the site's list has it.

use serde::{Deserialize, Serialize};

use crate::transport::NodeId;

/// Other nodes that a node keeps connections to; further ones are left out.
pub const MEMBERS_MAX: usize = 16;

/// A node of the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub node: NodeId,
    /// What people call it.
    pub name: String,
    /// `HOST:PORT` by which the others reach it.
    pub address: String,
}
