//! What the site's list is to say of this node where it says something else (pure).

use std::time::Duration;

use crate::catalog::{Member, MemberState, MemberUpdate};

/// What is so of this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// What people called it when they founded the site with it.
    pub name: Option<String>,
    /// Where others reach it, where that is known.
    pub address: Option<String>,
    /// The life that it lives.
    pub origin: u64,
    /// The version of its program.
    pub version: &'static str,
}

/// After what was said once, this node is not said anew to be elsewhere for so long: of two processes on copies of one data folder each says where it is.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// What of this node is to be in the list, and when that was said last.
#[derive(Debug)]
pub struct Sayer {
    place: Place,
    said: Option<Duration>,
}

impl Sayer {
    /// Nothing was said yet.
    pub fn new(place: Place) -> Self {
        Self { place, said: None }
    }

    /// What is to be said now, if it is not in the list: all of it the first time; where this node is and which life it lives again, where another
    /// process, on a copy of its data folder, has said something else since.
    pub fn place(&self, now: Duration) -> Option<&Place> {
        self.said.is_none_or(|said| now.saturating_sub(said) >= AGAIN_AFTER).then_some(&self.place)
    }

    /// The list says so now, or will.
    pub fn said(&mut self, now: Duration) {
        self.said = Some(now);
        // People may call it otherwise since.
        self.place.name = None;
    }
}

/// What the list is to say besides what it says: of the place, unless that was said already, and that the node is active, where an earlier
/// process of it was stopped while it left and this one does not leave.
pub fn update(listed: &Member, place: Option<&Place>, is_leaving: bool) -> Option<MemberUpdate> {
    let place = place.filter(|place| !is_said(listed, place));
    let is_left_over = listed.state == MemberState::Leaving && !is_leaving;
    (place.is_some() || is_left_over).then(|| MemberUpdate {
        name: place.and_then(|place| place.name.clone()),
        address: place.and_then(|place| place.address.clone()),
        origin: place.map(|place| place.origin),
        version: place.map(|place| place.version.to_owned()),
        state: is_left_over.then_some(MemberState::Active),
    })
}

fn is_said(listed: &Member, place: &Place) -> bool {
    let is_named = place.name.as_ref().is_none_or(|name| *name == listed.name);
    let is_at = place.address.as_ref().is_none_or(|address| *address == listed.address);
    is_named && is_at && listed.origin == Some(place.origin) && listed.version == place.version
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::NodeId;

    #[test]
    fn where_it_is_is_said_again_when_the_list_says_otherwise_and_not_too_often() {
        let (second, mut listed) = (Duration::from_secs(1), Member::sample(1, MemberState::Active));
        let place = Place { name: Some("a".into()), address: Some("right:1".into()), origin: 5, version: "1" };
        let mut sayer = Sayer::new(place);
        let first = update(&listed, sayer.place(second), false).unwrap();
        assert_eq!((first.name.as_deref(), first.address.as_deref()), (Some("a"), Some("right:1")));
        sayer.said(second);
        (listed.name, listed.address, listed.origin, listed.version) =
            ("b".into(), "right:1".into(), Some(5), "1".into());
        assert_eq!(update(&listed, sayer.place(second * 60), false), None, "people have named it anew");
        listed.address = "copy:1".into();
        assert_eq!(update(&listed, sayer.place(second * 10), false), None, "it was said just now");
        let again = update(&listed, sayer.place(second * 11), false).unwrap();
        assert_eq!((again.name, again.address.as_deref(), again.origin), (None, Some("right:1"), Some(5)));
    }

    #[test]
    fn what_is_otherwise_is_said() {
        let listed = |state| Member {
            node: NodeId(1),
            name: "a".into(),
            address: "h:1".into(),
            origin: Some(5),
            voter: true,
            state,
            version: "1".into(),
            joined: 0,
        };
        let place = Place { name: None, address: None, origin: 5, version: "1" };
        let moved = Place { address: Some("h:2".into()), ..place.clone() };
        let named = Place { name: Some("b".into()), ..place.clone() };
        let reborn = Place { origin: 6, ..place.clone() };
        let active = || MemberUpdate { state: Some(MemberState::Active), ..MemberUpdate::default() };
        let of = |place: &Place| MemberUpdate {
            name: place.name.clone(),
            address: place.address.clone(),
            origin: Some(place.origin),
            version: Some(place.version.to_owned()),
            state: None,
        };
        use MemberState::{Active, Leaving, Lost};
        for (case, state, place, is_leaving, expected) in [
            ("nothing is otherwise", Active, Some(&place), false, None),
            ("it has moved", Active, Some(&moved), false, Some(of(&moved))),
            ("it was named", Active, Some(&named), false, Some(of(&named))),
            ("it lives another life", Active, Some(&reborn), false, Some(of(&reborn))),
            ("it was said", Active, None, false, None),
            ("it leaves", Leaving, None, true, None),
            ("it leaves, and has moved", Leaving, Some(&moved), true, Some(of(&moved))),
            ("it was stopped while it left", Leaving, Some(&place), false, Some(active())),
            ("and has moved", Leaving, Some(&moved), false, Some(MemberUpdate { state: Some(Active), ..of(&moved) })),
            ("that became known here later", Leaving, None, false, Some(active())),
            ("people gave it up", Lost, Some(&place), false, None),
        ] {
            assert_eq!(update(&listed(state), place, is_leaving), expected, "{case}");
        }
    }
}
