//! Changes and how they are judged: the same state and the same change give the same answer.

use super::*;
use crate::catalog::change::Terms;
use crate::catalog::level::LEVEL_MAX;
use crate::catalog::state::State;
use crate::catalog::token::TOKENS_MAX;

const NOW: i64 = 1_000_000;

fn terms(at_ms: i64) -> Terms {
    Terms { at_ms, index: 7, devices_max: 10, bytes_max: 1 << 20 }
}

/// Makes changes one after another; each must come to something.
fn made(changes: Vec<Change>) -> State {
    let mut state = State::default();
    state.apply(&Write::Site(Arc::new(Site { id: 5, name: "s".into(), lease: Lease::Run })));
    for change in changes {
        let applied = change.judge(&state, &terms(NOW)).unwrap_or_else(|refusal| panic!("{change:?}: {refusal}"));
        applied.writes.iter().for_each(|write| state.apply(write));
    }
    state
}

/// What each change comes to on a state: `ok`, or a code; and each says what to do.
fn judged(state: &State, cases: Vec<(Change, &str)>) {
    for (change, expected) in cases {
        let verdict = change.judge(state, &terms(NOW));
        let code = verdict.as_ref().map_or_else(Refusal::code, |_| "ok");
        assert_eq!(code, expected, "{change:?}: {verdict:?}");
        assert_eq!(verdict, change.judge(state, &terms(NOW)), "the same answer each time");
        if let Err(refusal) = verdict {
            assert!(refusal.to_string().len() > 20, "{refusal}");
        }
    }
}

fn node(id: u64, name: &str) -> NewMember {
    NewMember {
        node: NodeId(id),
        name: name.into(),
        address: "a:1".into(),
        origin: Some(id + 100),
        version: "1".into(),
    }
}

fn new(id: u64, name: &str) -> Change {
    Change::AddMember(node(id, name))
}

fn update(id: u64, update: MemberUpdate) -> Change {
    Change::UpdateMember { node: NodeId(id), update }
}

fn state_of(id: u64, state: MemberState) -> Change {
    update(id, MemberUpdate { state: Some(state), ..MemberUpdate::default() })
}

fn remove(id: u64) -> Change {
    Change::RemoveMember { node: NodeId(id) }
}

#[test]
fn members() {
    let state = made(vec![new(1, "a"), new(2, "b"), new(3, "c"), remove(3), state_of(2, MemberState::Leaving)]);
    let named = |name: &str| MemberUpdate { name: Some(name.into()), ..MemberUpdate::default() };
    let at = |address: &str| MemberUpdate { address: Some(address.into()), ..MemberUpdate::default() };
    judged(
        &state,
        vec![
            (new(4, "d"), "ok"),
            (new(4, "a"), "member-name-taken"),
            (new(4, ""), "bad_request"),
            (new(4, "d d"), "bad_request"),
            (Change::AddMember(NewMember { address: String::new(), ..node(4, "d") }), "bad_request"),
            (Change::AddMember(NewMember { address: "a b".into(), ..node(4, "d") }), "bad_request"),
            (Change::AddMember(NewMember { version: "v".repeat(65), ..node(4, "d") }), "bad_request"),
            (new(1, "d"), "member-exists"),
            (new(3, "d"), "member-removed"),
            (remove(3), "member-removed"),
            (remove(4), "member-unknown"),
            (remove(2), "ok"),
            (remove(1), "last-member"),
            (state_of(1, MemberState::Lost), "last-member"),
            (state_of(2, MemberState::Active), "ok"),
            (update(2, named("e")), "ok"),
            (update(2, named("a")), "member-name-taken"),
            (update(2, named("b")), "ok"),
            (update(2, at("")), "bad_request"),
            (update(2, at(&"x".repeat(257))), "bad_request"),
            (update(3, named("e")), "member-removed"),
            (update(4, named("e")), "member-unknown"),
        ],
    );
    let full = made((0..MEMBERS_MAX as u64).map(|id| new(id, &format!("n{id}"))).collect());
    judged(&full, vec![(new(99, "x"), "too-many-members")]);
}

#[test]
fn tokens() {
    let hash = |byte| TokenHash([byte; 32]);
    let issue = |byte, expires_at_ms| Change::IssueToken { hash: hash(byte), expires_at_ms };
    let by = |byte, id| Change::UseToken { hash: hash(byte), by: NodeId(id) };
    let mut state = made(vec![
        new(1, "a"),
        new(2, "b"),
        remove(2),
        issue(1, NOW + 10),
        issue(2, NOW + 10),
        issue(3, NOW + 10),
        by(2, 8),
    ]);
    state.apply(&Write::Token(hash(4), Some(Token { expires_at_ms: NOW, used_by: None })));
    judged(
        &state,
        vec![
            (by(1, 9), "ok"),
            (by(1, 2), "member-removed"),
            (by(2, 9), "token-used"),
            // One that did not hear that it came in.
            (by(2, 8), "ok"),
            (by(4, 9), "token-expired"),
            (by(5, 9), "token-unknown"),
            (issue(5, NOW), "token-expired"),
            (issue(5, NOW + TOKEN_LIFE_MS_MAX + 1), "token-lifetime"),
            (issue(5, i64::MAX), "token-lifetime"),
            (issue(1, NOW + 10), "token-exists"),
            (issue(4, NOW + 10), "ok"),
        ],
    );
    // A new one sweeps away what has expired.
    let applied = issue(5, NOW + 20).judge(&state, &terms(NOW)).unwrap();
    assert_eq!(applied.writes.len(), 2);
    assert_eq!(applied.writes[0], Write::Token(hash(4), None));
    let many = (0..TOKENS_MAX).map(|n| {
        let mut hash = [0; 32];
        hash[..2].copy_from_slice(&u16::try_from(n).unwrap().to_be_bytes());
        Change::IssueToken { hash: TokenHash(hash), expires_at_ms: NOW + 10 }
    });
    let full = made(many.collect());
    judged(&full, vec![(issue(0xff, NOW + 10), "too-many-tokens")]);
    let later = issue(0xff, NOW + 30).judge(&full, &terms(NOW + 10)).unwrap();
    assert_eq!(later.writes.len(), TOKENS_MAX + 1);
}

#[test]
fn a_token_is_good_for_as_long_by_the_leaders_clock() {
    let hash = TokenHash([7; 32]);
    let life_ms = i64::try_from(crate::security::JOIN_TOKEN_LIFETIME.as_millis()).unwrap();
    let day_ms = 24 * 3_600 * 1_000;
    for ahead_ms in [-day_ms, -life_ms, 0, 1, day_ms, 60 * day_ms] {
        let asked = Change::IssueToken { hash, expires_at_ms: NOW + ahead_ms + life_ms };
        let issued = asked.settled(&terms(NOW));
        assert_eq!(issued, Change::IssueToken { hash, expires_at_ms: NOW + life_ms }, "{ahead_ms}");
        assert!(issued.judge(&State::default(), &terms(NOW)).is_ok());
    }
    // So is one for a gateway of another site.
    let mut state = State::default();
    state.apply(&Write::Level(LEVEL_MAX));
    for ahead_ms in [-day_ms, -life_ms, 0, 60_001, day_ms] {
        let invite = |expires_at_ms| Change::InviteLink { name: "plant".to_owned(), hash, expires_at_ms };
        let invited = invite(NOW + ahead_ms + LINK_TOKEN_LIFE_MS).settled(&terms(NOW));
        assert_eq!(invited, invite(NOW + LINK_TOKEN_LIFE_MS), "{ahead_ms}");
        assert!(invited.judge(&state, &terms(NOW)).is_ok());
    }
    let other = Change::UseToken { hash, by: NodeId(1) };
    assert_eq!(other.clone().settled(&terms(NOW)), other);
}

#[test]
fn topics() {
    let settings = |partitions| TopicSettings {
        partitions,
        compression: Packing::Lz4,
        memory: false,
        retention_ms: Some(5),
        retention_bytes: None,
    };
    let create =
        |id, name: &str| Change::CreateTopic { id, name: name.into(), settings: settings(4), ack: Ack::Quorum };
    let set = |name: &str, update| Change::SetTopic { name: name.into(), update };
    let delete = |name: &str| Change::DeleteTopic { name: name.into() };
    let state = made(vec![create(1, "a"), create(2, "gone"), delete("gone"), create(3, "gone"), delete("gone")]);
    assert_eq!(state.topic("gone").unwrap().deletions, 2, "how often is remembered");
    judged(
        &state,
        vec![
            (create(9, "b"), "ok"),
            (create(9, "a"), "topic-exists"),
            (create(1, "b"), "topic-id-taken"),
            (create(3, "gone"), "topic-id-taken"),
            (create(9, "gone"), "ok"),
            (create(9, "_internal"), "bad_request"),
            (create(9, ""), "bad_request"),
            (create(9, ".."), "bad_request"),
            (create(9, "a b"), "bad_request"),
            (create(9, &"x".repeat(250)), "bad_request"),
            (Change::CreateTopic { id: 9, name: "b".into(), settings: settings(0), ack: Ack::Local }, "bad_request"),
            (Change::CreateTopic { id: 9, name: "b".into(), settings: settings(257), ack: Ack::Local }, "bad_request"),
            (set("b", TopicUpdate::default()), "topic-unknown"),
            (set("gone", TopicUpdate::default()), "topic-unknown"),
            (delete("gone"), "topic-unknown"),
            (delete("a"), "ok"),
        ],
    );
    let update = TopicUpdate { retention_ms: Some(None), ack: Some(Ack::Local), ..TopicUpdate::default() };
    let Write::Topic(_, record) = &set("a", update).judge(&state, &terms(NOW)).unwrap().writes[0] else { panic!() };
    let topic = record.topic.clone().unwrap();
    assert_eq!((topic.settings.retention_ms, topic.ack, topic.created_at_ms), (None, Ack::Local, NOW));
}

#[test]
fn work() {
    let assign = |plugin: &str, partition, id, term| Change::SetAssignment {
        plugin: plugin.into(),
        partition,
        node: NodeId(id),
        term,
    };
    let take = |origin, id, term| Change::TakeOver { origin, from_commit: 3, by: NodeId(id), term };
    let state = made(vec![
        new(1, "a"),
        new(2, "b"),
        new(3, "c"),
        new(4, "d"),
        remove(4),
        state_of(3, MemberState::Lost),
        assign("p", 0, 1, 5),
        take(103, 1, 2),
    ]);
    judged(
        &state,
        vec![
            (assign("p", 0, 2, 6), "ok"),
            (assign("p", 0, 2, 5), "stale-term"),
            (assign("p", 1, 2, 1), "ok"),
            (assign("p", 1, 2, 0), "stale-term"),
            (assign("p", 1, 3, 1), "member-not-active"),
            (assign("p", 1, 4, 1), "member-removed"),
            (assign("p", 1, 9, 1), "member-unknown"),
            (assign("", 1, 1, 1), "bad_request"),
            (assign("p", 256, 1, 1), "bad_request"),
            (take(103, 2, 4), "ok"),
            (take(103, 2, 3), "stale-term"),
            (take(103, 2, 2), "stale-term"),
            (take(102, 1, 1), "ok"),
            (take(104, 1, 1), "ok"),
            (take(104, 3, 1), "member-not-active"),
        ],
    );
}

#[test]
fn the_site() {
    let named = |name: &str| Change::SetSite(SiteUpdate { name: Some(name.into()), ..SiteUpdate::default() });
    let state = made(vec![Change::SetSite(SiteUpdate { lease: Some(Lease::Pause), ..SiteUpdate::default() })]);
    judged(&state, vec![(named("plant-1"), "ok"), (named(""), "bad_request"), (named("a b"), "bad_request")]);
    assert_eq!(**state.site().unwrap(), Site { id: 5, name: "s".into(), lease: Lease::Pause });
    judged(&State::default(), vec![(named("plant-1"), "no-site")]);
}

#[test]
fn what_is_proposed_has_these_bytes() {
    let text = |text: &str| text.to_owned();
    let (no_tags, hash) = (BTreeSet::new(), TokenHash([7; 32]));
    let update = MemberUpdate { state: Some(MemberState::Lost), ..MemberUpdate::default() };
    let settings = TopicSettings {
        partitions: 4,
        compression: Packing::Zstd,
        memory: true,
        retention_ms: Some(5),
        retention_bytes: None,
    };
    let topic_update = TopicUpdate { retention_ms: Some(None), ..TopicUpdate::default() };
    let attributes = [(text("n"), Value::Number(1.5))].into();
    let add = Change::AddDevice { device: text("d"), tags: [text("t")].into(), attributes, refuses_repeats: None };
    let set = [(text("f"), Some(Value::Flag(true))), (text("g"), None)].into();
    let set = Change::SetAttributes { device: text("d"), set, refuses_repeats: Some(None), seen: true };
    let plugin = NewPlugin { name: text("p"), manifest: text("m"), is_guard: false, sha256: [7; 32], bytes: 3 };
    let issue = [&[7][..], &[7; 32], &[2]].concat();
    let by = [&[8][..], &[7; 32], &[9]].concat();
    let route = NewRoute { order: 5, pattern: text("a"), topic: text("t"), key: None };
    let cases: [(Change, Vec<u8>); 24] = [
        (add, vec![0, 1, b'd', 1, 1, b't', 1, 1, b'n', 1, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0]),
        (Change::RemoveDevice { device: text("d") }, vec![1, 1, b'd']),
        (
            Change::SetTags { device: text("d"), add: [text("t")].into(), remove: no_tags, seen: true },
            vec![2, 1, b'd', 1, 1, b't', 0, 1],
        ),
        (set, vec![3, 1, b'd', 2, 1, b'f', 1, 2, 1, 1, b'g', 0, 1, 0, 1]),
        (new(1, "a"), vec![4, 1, 1, b'a', 3, b'a', b':', b'1', 1, 101, 1, b'1']),
        (Change::UpdateMember { node: NodeId(1), update }, vec![5, 1, 0, 0, 0, 1, 2, 0]),
        (remove(1), vec![6, 1]),
        (Change::IssueToken { hash, expires_at_ms: 1 }, issue),
        (Change::UseToken { hash, by: NodeId(9) }, by),
        (
            Change::CreateTopic { id: 3, name: text("a"), settings, ack: Ack::Quorum },
            vec![9, 3, 1, b'a', 4, 2, 1, 1, 5, 0, 1],
        ),
        (Change::SetTopic { name: text("a"), update: topic_update }, vec![10, 1, b'a', 1, 0, 0, 0, 0]),
        (Change::DeleteTopic { name: text("a") }, vec![11, 1, b'a']),
        (
            Change::SetAssignment { plugin: text("p"), partition: 2, node: NodeId(1), term: 3 },
            vec![12, 1, b'p', 2, 1, 3],
        ),
        (Change::TakeOver { origin: 1, from_commit: 2, by: NodeId(3), term: 4 }, vec![13, 1, 2, 3, 4]),
        (Change::SetSite(SiteUpdate { name: None, lease: Some(Lease::Pause) }), vec![14, 0, 1, 1]),
        (Change::GiveBack { origin: 1, term: 2 }, vec![15, 1, 2]),
        (Change::DeployPlugin(plugin), [&[16, 1, b'p', 1, b'm', 0][..], &[7; 32], &[3]].concat()),
        (Change::RemovePlugin { name: text("p") }, vec![17, 1, b'p']),
        (Change::RaiseLevel { to: 2 }, vec![18, 2]),
        (Change::SetRoute { name: text("r"), route }, vec![19, 1, b'r', 5, 1, b'a', 1, b't', 0]),
        (Change::DeleteRoute { name: text("r") }, vec![20, 1, b'r']),
        (Change::GrantPlugin { name: text("p"), version: 2, manifest: text("m") }, vec![21, 1, b'p', 2, 1, b'm']),
        (Change::ForgetOrigin { origin: 1, term: 2 }, vec![22, 1, 2]),
        (Change::ForgetAssignments { plugin: text("p") }, vec![23, 1, b'p']),
    ];
    for (change, golden) in cases {
        let encoded = consensus::encode_change(&change);
        assert_eq!(encoded, [&[1][..], &golden].concat(), "{change:?}");
        assert_eq!(encoding::decode::<Change>(1, &encoded), Some(change));
    }
}

#[test]
fn what_is_set_comes_back_from_its_entries() {
    let hash = TokenHash([3; 32]);
    let route = NewRoute { order: 5, pattern: "a/+".into(), topic: "t".into(), key: Some("k".into()) };
    let state = made(vec![
        add("d"),
        new(1, "a"),
        new(2, "b"),
        remove(2),
        Change::IssueToken { hash, expires_at_ms: NOW + 1 },
        Change::SetAssignment { plugin: "a/b".into(), partition: 12, node: NodeId(1), term: 1 },
        Change::TakeOver { origin: u64::MAX, from_commit: 1, by: NodeId(1), term: 1 },
        Change::RaiseLevel { to: 2 },
        Change::SetRoute { name: "r".into(), route },
    ]);
    let all: Vec<Write> = state.all().collect();
    assert_eq!(all.len(), 9);
    let mut back = State::default();
    for write in &all {
        let decoded = Write::decode(&write.key(), &write.value().unwrap()).unwrap();
        assert_eq!(&decoded, write);
        back.apply(&decoded);
    }
    assert!(back.all().eq(all.iter().cloned()));
    for (key, value) in [("", &[1][..]), ("other/x", &[1]), ("removed/x", &[1]), ("device/d", &[9]), ("site", &[9])] {
        assert_eq!(Write::decode(key.as_bytes(), value), None, "{key}");
    }
}
