//! A node that its site has no place for: one that was taken out remembers it, one that may be a copy waits, and others are told what they cannot
//! see themselves.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use super::site::{SITE_FOLDER, SiteNode};
use super::wires::REMOVED;
use crate::admin::ApiError;
use crate::admin::site::TroubleView;
use crate::catalog::{Member, MemberState};
use crate::replication::peers::PeerState;
use crate::replication::{ASK_NEWS, Trouble};
use crate::transport::NodeId;

/// The file that says that the node was taken out of its site, within its folder.
const REMOVED_FILE: &str = "removed";
/// How long another node has to take news of itself.
const NEWS_WAIT: Duration = Duration::from_secs(5);
/// News that another process of a node came: the byte, and where from, as text.
const NEWS_COPIED: u8 = 1;
/// News that a node counts as lost where the news comes from.
const NEWS_LOST: u8 = 2;
/// Longest news, in bytes.
const NEWS_BYTES_MAX: usize = 64;

/// What people are told of a node that was taken out.
const WHAT_TO_DO: &str = "this node was taken out of its site and takes nothing any more. What it took since may be in its data folder alone: \
    `edgeway tail TOPIC` reads it, while the node runs. Then wipe the folder, so that it joins under a new id";

/// What one node tells another of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Another process of it came from there, and is kept out.
    Copied(SocketAddr),
    /// It counts as lost.
    Lost,
}

impl News {
    fn encode(self) -> Vec<u8> {
        match self {
            Self::Copied(from) => [&[NEWS_COPIED][..], from.to_string().as_bytes()].concat(),
            Self::Lost => vec![NEWS_LOST],
        }
    }

    /// `None` where that is no news, or of a later program.
    fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first().filter(|_| bytes.len() <= NEWS_BYTES_MAX)? {
            (&NEWS_COPIED, from) => Some(Self::Copied(std::str::from_utf8(from).ok()?.parse().ok()?)),
            (&NEWS_LOST, []) => Some(Self::Lost),
            _ => None,
        }
    }

    /// The trouble that it is.
    fn code(self) -> &'static str {
        match self {
            Self::Copied(_) => "copied",
            Self::Lost => "lost-there",
        }
    }

    /// As people are told it, with who says so.
    fn text(self, by: &str) -> String {
        match self {
            Self::Copied(from) => format!(
                "another process of this very node came from {from}, says {by}, and is kept out there: this node's data folder was copied. \
                 This one goes on. Let no data folder be wiped before its node has run alone, and all have followed it"
            ),
            Self::Lost => format!(
                "this node counts as lost at {by}, which decides without it since `edgeway node promote --lost`: what is set here is not set \
                 there. Have it removed there with `edgeway node remove`, by which it hands over what it alone has; then wipe its data folder, \
                 and let it join anew"
            ),
        }
    }
}

fn removed_file(data: &Path) -> PathBuf {
    data.join(SITE_FOLDER).join(REMOVED_FILE)
}

/// Notes that the node was taken out; durable on return.
fn note_removed(data: &Path) -> io::Result<()> {
    File::create(removed_file(data))?.sync_all()?;
    File::open(data.join(SITE_FOLDER))?.sync_all()
}

/// Whether that was noted.
pub(super) fn was_removed(data: &Path) -> bool {
    removed_file(data).exists()
}

/// Who keeps this node out as a copy, and why it says so, the first that does (pure).
fn caller(peers: &[PeerState]) -> Option<String> {
    let caller = peers.iter().find(|peer| peer.calls_copy)?;
    Some(format!("{} keeps this node out: {}", caller.name, caller.error.as_deref().unwrap_or_default()))
}

/// What is to be said of members that count as lost: that they hold things up, and which of them are heard all the same (pure).
pub(super) fn lost_told(members: &[Member], heard: &BTreeSet<NodeId>, at_ms: i64) -> Vec<TroubleView> {
    let lost = || members.iter().filter(|member| member.state == MemberState::Lost);
    let names = |heard_only: bool| -> Vec<&str> {
        lost().filter(|one| !heard_only || heard.contains(&one.node)).map(|one| one.name.as_str()).collect()
    };
    let told = |code: &str, text: String| TroubleView { at_ms, code: code.to_owned(), text };
    let (all, there) = (names(false).join(", "), names(true).join(", "));
    let held_up = (!all.is_empty()).then(|| {
        told("lost-nodes", format!(
            "{all} count as lost: while they are listed, they count for the quorum, and events of quorum topics may be refused. Take them out with \
             `edgeway node remove`; their data folders are to be wiped before they come back"
        ))
    });
    let back = (!there.is_empty()).then(|| {
        told("lost-heard", format!(
            "{there} count as lost, and are heard: they are of another group, and what is set there is not set here. Take them out with `edgeway \
             node remove`, by which they hand over what they alone have; then wipe their data folders, and let them join anew"
        ))
    });
    held_up.into_iter().chain(back).collect()
}

impl SiteNode {
    /// Remembers for all later starts that this node was taken out of its site, where that is known: a list that lacks it says less.
    pub(super) fn remember_if_removed(&self) {
        let is_told = || self.book.troubles().iter().any(|trouble| trouble.code == REMOVED);
        if self.catalog.is_removed(self.place.node) || is_told() {
            self.remember_removed();
        }
    }

    /// Remembers for all later starts that this node was taken out of its site.
    pub(super) fn remember_removed(&self) {
        self.is_out.store(true, Ordering::Release);
        if let Err(error) = note_removed(&self.told.data) {
            tracing::error!(%error, path = %removed_file(&self.told.data).display(), "at the next start it is not known that this node was taken out: do not start it again");
        }
    }

    /// Closes the doors for good where it is known from an earlier run that this node was taken out; before they are opened.
    pub(super) async fn keep_out_if_removed(&self) {
        if was_removed(&self.told.data) || self.catalog.is_removed(self.place.node) {
            self.is_out.store(true, Ordering::Release);
            self.shut_out().await;
        }
    }

    /// Closes the doors for good, and says why.
    pub(super) async fn shut_out(&self) {
        tracing::error!(code = REMOVED, "{WHAT_TO_DO}");
        let at_ms = self.log.clock().wall_ms();
        self.book.trouble(Trouble { at_ms, code: REMOVED, text: WHAT_TO_DO.to_owned() });
        if let Some(doors) = self.doors.get() {
            doors.shut(WHAT_TO_DO.to_owned()).await;
        }
    }

    /// Whether this node was taken out of its site, as it knows.
    pub(super) fn is_out(&self) -> bool {
        self.is_out.load(Ordering::Acquire) || self.catalog.is_removed(self.place.node)
    }

    /// # Errors
    /// When this node was taken out of its site.
    pub(super) fn check_not_out(&self) -> Result<(), ApiError> {
        if self.is_out() {
            return Err(ApiError::conflict(WHAT_TO_DO).coded("member-removed"));
        }
        Ok(())
    }

    /// What is wrong with this node itself, for its own row.
    pub(super) fn own_problem(&self, peers: &[PeerState]) -> Option<String> {
        let out = self.is_out().then(|| "it was removed from the site, and takes nothing".to_owned());
        out.or_else(|| caller(peers).map(|_| "it is kept out as a copy of one that runs, and takes nothing".to_owned()))
    }

    /// Takes nothing while another node keeps this one out as a copy: what it took would be with nobody else.
    pub(super) async fn wait_while_copy(self: Arc<Self>, mut states: watch::Receiver<Arc<Vec<PeerState>>>) {
        let mut is_held = false;
        loop {
            let said = caller(&states.borrow_and_update());
            if let Some(doors) = self.doors.get().filter(|_| said.is_some() != is_held) {
                is_held = said.is_some();
                match said {
                    Some(why) => {
                        tracing::error!(why, "the node takes nothing until it is let in");
                        doors.hold(why).await;
                    }
                    None => {
                        tracing::warn!("the node is not kept out as a copy any more");
                        doors.release();
                    }
                }
            }
            if states.changed().await.is_err() {
                return;
            }
        }
    }

    /// Tells those that count as lost here, and are heard, once each time that they come: they may not know it.
    pub(super) async fn tell_lost(self: Arc<Self>, mut states: watch::Receiver<Arc<Vec<PeerState>>>) {
        let mut told = BTreeSet::new();
        loop {
            let members = self.catalog.members();
            let heard: BTreeSet<NodeId> =
                states.borrow_and_update().iter().filter(|peer| peer.is_connected).map(|peer| peer.node).collect();
            told.retain(|node| heard.contains(node));
            let is_lost = |node: &NodeId| members.iter().any(|one| one.node == *node && one.state == MemberState::Lost);
            for node in heard.into_iter().filter(is_lost) {
                if told.insert(node) {
                    self.tell_news(node, News::Lost).await;
                }
            }
            if states.changed().await.is_err() {
                return;
            }
        }
    }

    /// Tells another node what it cannot see. An older program does not know the question, and is not told.
    pub(super) async fn tell_news(&self, node: NodeId, news: News) {
        let Some(peers) = self.peers() else { return };
        if let Err(error) = peers.ask(node, ASK_NEWS, &news.encode(), NEWS_WAIT).await {
            tracing::warn!(%node, ?news, %error, "a node could not be told what it should know");
        }
    }

    /// Another node tells this one something of it; what people are to know of that, with its code.
    pub(super) fn hear_news(&self, from: NodeId, body: &[u8]) -> Option<(&'static str, String)> {
        let news = News::decode(body)?;
        let name = self.names(&[from]).concat();
        Some((news.code(), news.text(&name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_have_these_bytes() {
        for (news, bytes) in [(News::Copied("[::1]:9".parse().unwrap()), &b"\x01[::1]:9"[..]), (News::Lost, b"\x02")] {
            assert_eq!(news.encode(), bytes);
            assert_eq!(News::decode(bytes), Some(news));
        }
        let long = [&[NEWS_COPIED][..], &[b'1'; NEWS_BYTES_MAX]].concat();
        for bytes in [&b""[..], b"\x00", b"\x01", b"\x01anything", b"\x01\xff", b"\x02x", b"\x03", &long] {
            assert_eq!(News::decode(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn that_it_was_taken_out_is_noted_where_the_site_is() {
        let data = tempfile::tempdir().unwrap();
        note_removed(data.path()).unwrap_err();
        std::fs::create_dir(data.path().join(SITE_FOLDER)).unwrap();
        assert!(!was_removed(data.path()));
        note_removed(data.path()).unwrap();
        note_removed(data.path()).unwrap();
        assert!(was_removed(data.path()));
    }

    #[test]
    fn lost_ones_are_told_of_and_those_of_them_that_are_heard() {
        let members = [(1, MemberState::Active), (2, MemberState::Lost), (3, MemberState::Lost)]
            .map(|(node, state)| Member { name: format!("n{node}"), ..Member::sample(node, state) });
        let told = |members: &[Member], heard: &[u64]| -> Vec<(String, String)> {
            let heard = heard.iter().copied().map(NodeId).collect();
            let told = lost_told(members, &heard, 7).into_iter();
            told.map(|told| (told.code, told.text.split(" count").next().unwrap().to_owned())).collect()
        };
        let pair = |code: &str, who: &str| (code.to_owned(), who.to_owned());
        assert_eq!(told(&members[..1], &[1]), []);
        assert_eq!(told(&members, &[1]), [pair("lost-nodes", "n2, n3")]);
        assert_eq!(told(&members, &[1, 3]), [pair("lost-nodes", "n2, n3"), pair("lost-heard", "n3")]);
    }
}
