//! Invitations, gateways and removed links, as they are judged.

use super::*;
use crate::catalog::Config;

const MINUTE_MS: i64 = 60_000;

fn terms(at_ms: i64) -> Terms {
    Terms::new(&Config::default(), at_ms, 1)
}

fn hash(byte: u8) -> TokenHash {
    TokenHash([byte; 32])
}

/// The state with what was judged in it; the code of the refusal.
fn apply(state: &mut State, judged: Result<Vec<Write>, LinkRefusal>) -> &'static str {
    match judged {
        Ok(writes) => {
            for write in writes {
                // What is stored comes back as it is.
                if let Some(value) = write.value() {
                    assert_eq!(Write::decode(&write.key(), &value), Some(write.clone()));
                }
                state.apply(&write);
            }
            ""
        }
        Err(refusal) => refusal.code(),
    }
}

#[test]
fn a_token_lets_one_gateway_in_once_and_a_removed_link_stays_out() {
    let mut state = State::default();
    let invite = |state: &mut State, name: &str, byte, at_ms| {
        let judged = judge_invite(state, name, hash(byte), at_ms + 15 * MINUTE_MS, &terms(at_ms));
        apply(state, judged)
    };
    let accept = |state: &mut State, byte, node, drawn, at_ms| {
        let judged = judge_accept(state, hash(byte), (NodeId(node), "gw"), drawn, &terms(at_ms));
        apply(state, judged)
    };
    assert_eq!(invite(&mut state, "a b", 1, 0), "bad_request");
    let long = judge_invite(&state, "plant", hash(1), 16 * MINUTE_MS, &terms(0));
    assert_eq!(long, Err(LinkRefusal::TokenExpired));
    assert_eq!(accept(&mut state, 1, 1, 70, 0), "token-unknown");
    assert_eq!(invite(&mut state, "plant", 1, 0), "");
    assert_eq!(accept(&mut state, 1, 1, 70, 15 * MINUTE_MS), "token-expired");
    assert_eq!(accept(&mut state, 1, 1, 70, 5), "");
    assert_eq!(accept(&mut state, 1, 1, 71, 6), "", "it was cut off before it heard");
    assert_eq!(accept(&mut state, 1, 2, 72, 6), "token-used");
    assert_eq!(state.link("plant").unwrap().ids, [70]);
    // A second gateway of the site, by a token of its own.
    assert_eq!(invite(&mut state, "plant", 2, 6), "");
    assert_eq!(accept(&mut state, 2, 2, 73, 7), "");
    let link = state.link("plant").unwrap();
    assert!(link.ids == [70] && link.lets_in(NodeId(1)) && link.lets_in(NodeId(2)) && !link.lets_in(NodeId(3)));
    let judged = judge_remove(&state, "plant");
    assert_eq!(apply(&mut state, judged), "");
    assert_eq!(judge_remove(&state, "other"), Err(LinkRefusal::Unknown("other".to_owned())));
    assert!(!state.link("plant").unwrap().lets_in(NodeId(1)));
    assert_eq!(accept(&mut state, 1, 1, 74, 8), "token-unknown", "its tokens went with it");
    // Invited again, it has the id that it had: what it brought is its own.
    assert_eq!(invite(&mut state, "plant", 3, 9), "");
    assert_eq!(accept(&mut state, 3, 5, 75, 9), "");
    let link = state.link("plant").unwrap();
    assert!(link.ids == [70] && link.lets_in(NodeId(5)) && !link.lets_in(NodeId(1)));
    // Expired tokens go when a new one is made.
    assert_eq!(invite(&mut state, "plant", 4, 60 * MINUTE_MS), "");
    assert_eq!(state.link_tokens().count(), 1);
}

#[test]
fn tokens_links_and_gateways_are_bounded() {
    let mut state = State::default();
    for n in 0..LINK_TOKENS_MAX {
        let mut of = [0; 32];
        of[..8].copy_from_slice(&n.to_be_bytes());
        let judged = judge_invite(&state, "plant", TokenHash(of), 10, &terms(0));
        assert_eq!(apply(&mut state, judged), "");
    }
    let one_more = judge_invite(&state, "plant", hash(255), 10, &terms(0));
    assert_eq!(one_more, Err(LinkRefusal::TooMany("tokens of links")));
    let link = |id: u64| AgreedLink { ids: vec![id], added_at_ms: 0, is_revoked: false, nodes: Vec::new() };
    for n in 0..LINKS_MAX as u64 {
        let judged = judge_import(&state, &format!("site-{n}"), &link(n));
        assert_eq!(apply(&mut state, judged), "");
    }
    assert_eq!(judge_import(&state, "one-more", &link(1)), Err(LinkRefusal::TooMany("links")));
    let mut nodes = state.link_tokens().map(|(hash, _)| *hash).zip(1..).collect::<Vec<_>>();
    nodes.truncate(LINK_NODES_MAX);
    state.apply(&Write::Link("plant".into(), link(7).into()));
    for (hash, node) in nodes {
        let judged = judge_accept(&state, hash, (NodeId(node), "gw"), 7, &terms(0));
        assert_eq!(apply(&mut state, judged), "");
    }
    let unused = *state.link_tokens().find(|(_, token)| token.used_by.is_none()).unwrap().0;
    let full = judge_accept(&state, unused, (NodeId(999), "gw"), 7, &terms(0));
    let refused = full.unwrap_err();
    assert_eq!((refused.code(), &refused), ("too-many-links", &LinkRefusal::TooManyGateways("plant".into())));
    assert!(refused.to_string().contains("`edgeway link remove plant`"), "it says what is to be done: {refused}");
    // Which helps.
    let judged = judge_remove(&state, "plant");
    assert_eq!(apply(&mut state, judged), "");
    let (again, expires_at_ms) = (TokenHash([99; 32]), 15 * MINUTE_MS);
    let judged = judge_invite(&state, "plant", again, expires_at_ms, &terms(0));
    assert_eq!(apply(&mut state, judged), "");
    let judged = judge_accept(&state, again, (NodeId(999), "gw"), 7, &terms(1));
    assert_eq!(apply(&mut state, judged), "");
}

#[test]
fn what_nodes_had_for_themselves_becomes_one_link() {
    let link = |id: u64, is_revoked, nodes: &[u64]| AgreedLink {
        ids: vec![id],
        added_at_ms: id as i64,
        is_revoked,
        nodes: nodes.iter().map(|node| (NodeId(*node), "gw".to_owned())).collect(),
    };
    // What comes one after the other; the ids, whether it is removed, the gateways.
    type Case = (&'static [(u64, bool, &'static [u64])], &'static [u64], bool, &'static [u64]);
    let cases: [Case; 7] = [
        (&[(7, false, &[1])], &[7], false, &[1]),
        (&[(7, false, &[1]), (7, false, &[1, 2])], &[7], false, &[1]),
        (&[(7, false, &[1]), (8, false, &[2])], &[7, 8], false, &[1, 2]),
        (&[(7, true, &[]), (8, false, &[2])], &[7, 8], true, &[]),
        (&[(7, false, &[1]), (8, true, &[2])], &[7, 8], false, &[1]),
        (&[(7, true, &[1]), (8, false, &[2]), (9, false, &[1])], &[7, 8, 9], true, &[]),
        (&[(7, true, &[]), (8, true, &[])], &[7, 8], true, &[]),
    ];
    for (come, ids, is_revoked, nodes) in cases {
        let mut state = State::default();
        for (id, is_revoked, nodes) in come {
            let judged = judge_import(&state, "plant", &link(*id, *is_revoked, nodes));
            assert_eq!(apply(&mut state, judged), "");
        }
        let found = state.link("plant").unwrap();
        let known: Vec<u64> = found.nodes.iter().map(|(node, _)| node.0).collect();
        assert_eq!((&found.ids[..], found.is_revoked, &known[..]), (ids, is_revoked, nodes), "{come:?}");
    }
}

#[test]
fn stored_values_have_these_bytes() {
    let link =
        AgreedLink { ids: vec![300], added_at_ms: 1, is_revoked: true, nodes: vec![(NodeId(7), "n".to_owned())] };
    assert_eq!(link.encode(), [1, 1, 0xac, 2, 2, 1, 1, 7, 1, b'n']);
    assert_eq!(AgreedLink::decode(&link.encode()), Some(link));
    assert_eq!(AgreedLink::decode(&[1, 0, 2, 1, 0]), None, "a link has an id");
    let token = LinkToken { name: "p".to_owned(), expires_at_ms: 1, used_by: Some(NodeId(7)) };
    assert_eq!(token.encode(), [1, 1, b'p', 2, 1, 7]);
    assert_eq!(LinkToken::decode(&token.encode()), Some(token));
}
