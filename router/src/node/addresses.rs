//! Where the site's nodes are, as the tokens say it that let others in.

use crate::catalog::Member;
use crate::security::JOIN_ADDRESSES_MAX;
use crate::transport::NodeId;

/// The known addresses of the site's nodes, as many as a token says. This node's is the first: it is known to be there.
pub(super) fn addresses_of(members: &[Member], this: NodeId) -> Vec<String> {
    let mut all: Vec<(bool, &str)> =
        members.iter().map(|member| (member.node != this, member.address.as_str())).collect();
    all.retain(|(_, address)| !address.is_empty());
    all.sort_unstable();
    all.into_iter().map(|(_, address)| address.to_owned()).take(JOIN_ADDRESSES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::MemberState;

    #[test]
    fn this_node_is_the_first_and_who_has_no_address_is_left_out() {
        let member = |(node, address): (u64, &str)| Member {
            node: NodeId(node),
            name: format!("n{node}"),
            address: address.to_owned(),
            origin: None,
            voter: true,
            state: MemberState::Active,
            version: String::new(),
            joined: node,
        };
        let of = |all: &[(u64, &str)]| addresses_of(&all.iter().copied().map(member).collect::<Vec<_>>(), NodeId(2));
        assert_eq!(of(&[(1, "b:1"), (2, "c:1"), (3, ""), (4, "a:1")]), ["c:1", "a:1", "b:1"]);
        assert_eq!(of(&[(2, "")]), [""; 0]);
        let many: Vec<(u64, &str)> = (1..=20).map(|node| (node, "x:1")).collect();
        assert_eq!(of(&many).len(), JOIN_ADDRESSES_MAX);
    }
}
