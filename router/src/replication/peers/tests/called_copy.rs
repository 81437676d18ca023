//! For how long it counts that another node has called this one a copy (no sockets).

use super::super::table::{Failure, Table};
use super::*;

#[test]
fn it_counts_until_that_node_would_take_this_one_or_is_silent_for_long() {
    const COPIED: Option<u32> = Some(Close::Copied as u32);
    const CONTESTED: Option<u32> = Some(Close::Contested as u32);
    const WRONG_WAY: Option<u32> = Some(Close::WrongWay as u32);
    // At which second what came of an attempt, and whether it counts then.
    for (case, attempts) in [
        ("it may be the time of a restart", &[(1, CONTESTED, false), (2, None, false)][..]),
        ("it goes on to say so", &[(1, COPIED, true), (50, COPIED, true), (100, None, true), (109, CONTESTED, true)]),
        ("it would take this one", &[(1, COPIED, true), (2, WRONG_WAY, false), (3, None, false), (4, COPIED, true)]),
        ("it is silent", &[(1, COPIED, true), (60, None, true), (61, None, false), (70, None, false)]),
    ] {
        let mut table = Table::new(NodeId(2), 1);
        assert_eq!(table.sync(&[member(1, "127.0.0.1:9")], Duration::ZERO), None);
        for (second, code, counts) in attempts {
            let why = Failure { text: "said".to_owned(), code: *code };
            table.dial_failed(NodeId(1), true, &why, Duration::from_secs(*second));
            assert_eq!(table.states()[0].calls_copy, *counts, "{case}, at {second} s");
        }
        // It leaves the site.
        table.sync(&[], Duration::from_secs(200));
        table.drop_seat(NodeId(1));
        assert!(table.states().is_empty());
    }
}
