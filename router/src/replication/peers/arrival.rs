//! Whether a node that connects is taken (pure).

use std::time::Duration;

use super::Own;
use super::close::Close;
use super::hello::Hello;
use super::link::Moment;
use super::version::{Spoken, agree};
use crate::replication::PROGRAM;
use crate::transport::NodeId;

/// The connection that a node has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Present {
    /// Which process it is of.
    pub(super) incarnation: u64,
    /// It was heard after another process of the same node had come: both are alive.
    pub(super) is_copied: bool,
}

/// What becomes of one that arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is taken, in place of the connection that it has, if it has one; this protocol is spoken.
    Take(u16),
    /// It is sent away, with these words.
    Refuse(Close, String),
}

/// Decides about one whose certificate names `node`, a member. `is_unanswered`: where the list says that it is, nobody answers.
pub(super) fn judge(
    (own, spoken): (&Own, &Spoken),
    node: NodeId,
    hello: &Hello,
    present: Option<Present>,
    is_unanswered: bool,
) -> Verdict {
    if let Err((close, text)) = is_whom_it_should_be(own, node, hello) {
        return Verdict::Refuse(close, text);
    }
    let near = Hello::of(own, spoken, Moment::default()).speaker();
    let protocol = match agree(&near, &hello.speaker()) {
        Ok(protocol) => protocol,
        Err(gap) => return Verdict::Refuse(Close::Version, gap.to_string()),
    };
    match present {
        Some(present) if present.incarnation != hello.incarnation => another_process(own, node, present),
        // The list may have a wrong address: the one that is dialled cannot say so while nobody hears it.
        None if is_unanswered => Verdict::Take(protocol),
        _ if own.node < node => Verdict::Refuse(
            Close::WrongWay,
            format!("node {} has a smaller id and dials; it was told to dial now (edgeway {PROGRAM})", own.node),
        ),
        _ => Verdict::Take(protocol),
    }
}

/// The greeting says the same as the certificate.
pub(super) fn is_whom_it_should_be(own: &Own, node: NodeId, hello: &Hello) -> Result<(), (Close, String)> {
    if hello.node == node && hello.site == own.site {
        return Ok(());
    }
    let (said, site) = (hello.node, hello.site);
    let text = format!(
        "the certificate is of node {node} of site {:016x}, but it calls itself {said} of {site:016x}",
        own.site
    );
    Err((Close::Impostor, text))
}

/// What people do about two nodes of one data folder. What either has taken by itself is in its folder alone until others have followed it.
pub(super) const SETTLE_COPY: &str = "Stop one of them, let the other one run until all follow it (BEHIND 0 in `edgeway node status`), and \
    do the same with the one that was stopped: what it took is in its data folder alone until then. Only a folder that was followed is to be \
    wiped, so that it joins as a new node";

fn another_process(own: &Own, node: NodeId, present: Present) -> Verdict {
    if present.is_copied {
        let text = format!(
            "two nodes run as node {node}, from one copied data folder; node {} keeps the one that came first. {SETTLE_COPY}",
            own.node
        );
        return Verdict::Refuse(Close::Copied, text);
    }
    let text =
        format!("another process of node {node} is connected to node {} still; it may be gone in a moment", own.node);
    Verdict::Refuse(Close::Contested, text)
}

/// Another process of a node that is connected has come: whether a heartbeat over the old connection at `heard` shows
/// that both are alive. One that was sent before the restart arrives within the time of half a heartbeat.
pub(super) fn shows_copy(contested: Duration, heard: Duration, heartbeat: Duration) -> bool {
    heard >= contested + heartbeat / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::peers::PROTOCOL_MAX;

    const OWN: Own = Own { node: NodeId(5), site: 1, origin: 7, incarnation: 9 };

    fn hello(node: u64) -> Hello {
        Hello::of(&Own { node: NodeId(node), incarnation: 20, ..OWN }, &Spoken::default(), Moment::default())
    }

    #[test]
    fn each_arrival_has_its_verdict() {
        let present = |incarnation, is_copied| Some(Present { incarnation, is_copied });
        let newer = Hello { protocols: vec![PROTOCOL_MAX + 1, PROTOCOL_MAX + 2], ..hello(4) };
        let one_below = Hello { protocols: vec![1], ..hello(4) };
        let none = Hello { protocols: vec![], ..hello(4) };
        // (what, greeting, the connection that it has, how it is sent away, what the words hold)
        let cases = [
            ("it is taken", hello(4), None, None, ""),
            ("one version older", one_below, None, None, ""),
            ("it comes anew", hello(4), present(20, false), None, ""),
            ("from the future", newer, None, Some(Close::Version), "upgrade node 0000000000000005"),
            ("from nowhere", none, None, Some(Close::Version), "upgrade node 0000000000000004"),
            ("of another site", Hello { site: 2, ..hello(4) }, None, Some(Close::Impostor), "of 0000000000000002"),
            ("of another name", hello(3), None, Some(Close::Impostor), "calls itself 0000000000000003"),
            ("restarted", hello(4), present(19, false), Some(Close::Contested), "may be gone in a moment"),
            ("copied", hello(4), present(19, true), Some(Close::Copied), "two nodes run as node 0000000000000004"),
        ];
        for (what, hello, present, close, words) in cases {
            let both = hello.protocols.iter().max().copied().unwrap_or(0);
            match judge((&OWN, &Spoken::default()), NodeId(4), &hello, present, false) {
                Verdict::Take(protocol) => assert_eq!((close, protocol), (None, both), "{what}"),
                Verdict::Refuse(found, text) => {
                    assert_eq!(Some(found), close, "{what}");
                    assert!(text.contains(words), "{what}: {text}");
                }
            }
        }
        let refused =
            |present, unanswered| match judge((&OWN, &Spoken::default()), NodeId(6), &hello(6), present, unanswered) {
                Verdict::Refuse(close, _) => Some(close),
                Verdict::Take(_) => None,
            };
        assert_eq!(refused(None, false), Some(Close::WrongWay), "a larger one knocks");
        assert_eq!(refused(None, true), None, "and is taken where nobody answers at its address");
        assert_eq!(refused(present(20, false), true), Some(Close::WrongWay));
        assert_eq!(refused(present(19, true), true), Some(Close::Copied), "and hears that it was copied");
    }

    #[test]
    fn a_heartbeat_that_was_under_way_shows_nothing() {
        let ms = Duration::from_millis;
        for (heard, shows) in [(900, false), (1_000, false), (1_499, false), (1_500, true), (9_000, true)] {
            assert_eq!(shows_copy(ms(1_000), ms(heard), ms(1_000)), shows, "{heard}");
        }
    }
}
