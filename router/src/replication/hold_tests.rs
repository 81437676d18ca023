//! While a copy goes, and until the follower has said that it is whole, the source keeps the commits behind it.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use sled_data::{CommitNumber, MemoryBackend, Options};

use super::book::Book;
use super::source::Source;
use super::stream_tests::{append_blocking, link, open, until};
use super::wire::{Asked, Follow, Said, VERSION};
use crate::transport::NodeId;

/// Records that are kept otherwise; while a copy goes, four times as many.
const RECORDS: usize = 20;
/// Commits that are written meanwhile: more than are kept otherwise.
const MEANWHILE: usize = 50;

/// How the stream ends of one who takes a copy.
enum Then {
    /// It says that the copy is whole there.
    IsWhole,
    /// It goes before it has said so.
    Goes,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commits_behind_a_copy_are_kept_until_it_is_whole_where_it_went() {
    for then in [Then::IsWhole, Then::Goes] {
        let few = Options { commit_records_max: RECORDS, ..Options::default() };
        let there = open(MemoryBackend::new(), 1, few);
        let origin = there.store().origin();
        let topic = there.ensure_topic("line", None).unwrap();
        let append = |count: usize| (0..count).for_each(|_| append_blocking(&there, &topic, 0, "v"));
        append(5);
        let link = link().await;
        let (mut out, mut from) = link.dialled.open().await.unwrap();
        let follow = Follow { version: VERSION, origin: origin.0, have: 0, hlc: 0, whole: false };
        out.send_frame(&Asked::Follow(follow).encode()).await.unwrap();
        let (theirs_out, theirs_from) = link.taken.accept().await.unwrap();
        let source = Source { log: Arc::clone(&there), book: Arc::new(Book::default()), live_percent: 150 };
        tokio::spawn(async move { source.serve(NodeId(2), theirs_out, theirs_from).await });
        let mut receive = async || Said::decode(from.receive_frame(1 << 20).await.unwrap().unwrap()).unwrap();
        let head = loop {
            match receive().await {
                Said::CopyHead(head) => break sled_data::CopyHead::decode(&head).unwrap().commit,
                Said::Topic(_) => {}
                other => panic!("{other:?}"),
            }
        };
        // The copy is long in coming.
        append(MEANWHILE);
        out.send_frame(&Asked::Ends(Vec::new()).encode()).await.unwrap();
        let whole_at = loop {
            if let Said::CopyEnd(whole_at) = receive().await {
                break whole_at;
            }
        };
        let mut next = head.next();
        while next.0 <= whole_at {
            if let Said::Commit(commit) = receive().await {
                assert_eq!(sled_data::FollowedCommit::decode(&commit).unwrap().record.number, next, "none is left out");
                next = next.next();
            }
        }
        // All was sent. It is not stored there: one that begins anew from the same copy needs them again.
        append(10);
        let first_kept = || there.store().first_kept_commit();
        assert!(first_kept() <= head.next(), "{} is kept, and {head} was the head", first_kept());
        out.send_frame(&Asked::Synced(head.0).encode()).await.unwrap();
        append(1);
        assert!(first_kept() <= head.next(), "it has the copy, and not what makes it whole");
        match then {
            Then::IsWhole => out.send_frame(&Asked::Synced(whole_at).encode()).await.unwrap(),
            Then::Goes => link.dialled.close(0, "gone"),
        }
        until("the hold ends", || {
            append(1);
            let newest = there.store().synced_commit().0;
            first_kept() >= CommitNumber(newest - RECORDS as u64)
        })
        .await;
        there.close();
    }
}
