//! What a plugin's grants become: some are given, some are taken (pure).

use serde::{Deserialize, Serialize};

use crate::admin::devices::IssuedBy;
use crate::plugin_host::{Grants, TwinGrant};

/// Grants to give or to take.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrantSet {
    /// Topics that it may append to.
    pub emit: Vec<String>,
    /// Command names that it may send.
    pub commands: Vec<String>,
    /// Internal topics that it may read.
    pub internal: Vec<String>,
    /// Plugins whose state it may read.
    pub read_state: Vec<String>,
    /// Whether its commands may be urgent.
    pub urgent: bool,
    /// Whether it may keep state.
    pub state: bool,
    /// Whether it is given the events' headers.
    pub headers: bool,
    /// What it may do with device twins. Taken: that, and what is above it.
    pub twins: TwinGrant,
}

/// A change of grants.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrantChange {
    /// What it may from now on.
    pub grant: GrantSet,
    /// What it may not any more.
    pub revoke: GrantSet,
    /// Who changes it.
    pub issued_by: IssuedBy,
}

/// What a plugin may after a change.
pub(super) fn changed(grants: &Grants, change: &GrantChange) -> Grants {
    let GrantChange { grant, revoke, .. } = change;
    Grants {
        emit: listed(&grants.emit, &grant.emit, &revoke.emit),
        commands: listed(&grants.commands, &grant.commands, &revoke.commands),
        internal: listed(&grants.internal, &grant.internal, &revoke.internal),
        read_state: listed(&grants.read_state, &grant.read_state, &revoke.read_state),
        urgent: (grants.urgent || grant.urgent) && !revoke.urgent,
        state: (grants.state || grant.state) && !revoke.state,
        headers: (grants.headers || grant.headers) && !revoke.headers,
        twins: match (revoke.twins, grants.twins.max(grant.twins)) {
            (TwinGrant::None, twins) => twins,
            (TwinGrant::Read, _) => TwinGrant::None,
            (TwinGrant::Set, twins) => twins.min(TwinGrant::Read),
        },
    }
}

fn listed(before: &[String], grant: &[String], revoke: &[String]) -> Vec<String> {
    let new = grant.iter().filter(|name| !before.contains(name));
    before.iter().chain(new).filter(|name| !revoke.contains(name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_given_and_taken() {
        let names = |names: &str| names.split_whitespace().map(str::to_owned).collect::<Vec<String>>();
        let before = Grants { emit: names("a b"), state: true, twins: TwinGrant::Read, ..Grants::default() };
        let give = |grant: GrantSet| GrantChange { grant, ..GrantChange::default() };
        let take = |revoke: GrantSet| GrantChange { revoke, ..GrantChange::default() };
        let cases = [
            (GrantChange::default(), before.clone()),
            (
                give(GrantSet { emit: names("b c"), commands: names("*"), ..GrantSet::default() }),
                Grants { emit: names("a b c"), commands: names("*"), ..before.clone() },
            ),
            (
                give(GrantSet { urgent: true, headers: true, twins: TwinGrant::Set, ..GrantSet::default() }),
                Grants { urgent: true, headers: true, twins: TwinGrant::Set, ..before.clone() },
            ),
            (
                take(GrantSet { emit: names("a x"), state: true, ..GrantSet::default() }),
                Grants { emit: names("b"), state: false, ..before.clone() },
            ),
            (take(GrantSet { twins: TwinGrant::Set, ..GrantSet::default() }), before.clone()),
            (
                take(GrantSet { twins: TwinGrant::Read, ..GrantSet::default() }),
                Grants { twins: TwinGrant::None, ..before.clone() },
            ),
        ];
        for (change, expected) in cases {
            assert_eq!(changed(&before, &change), expected, "{change:?}");
        }
    }
}
