//! Many edges accept their invitations at once, beside some who come and say nothing.

use tokio::task::JoinSet;

use super::lab::Site;
use crate::links::accept::{Applicant, accept};
use crate::transport::{Bounds, Fingerprint, Way, dial_link_join};

/// More than are let in at once.
const EDGES: u64 = 24;
const SILENT: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_are_let_in_whoever_says_nothing() {
    let hq = Site::new(1).await;
    let mut joining = JoinSet::new();
    let mut silent = Vec::new();
    for number in 0..EDGES {
        let token = hq.invite(&format!("plant-{number}")).await;
        if silent.len() < SILENT {
            let (ca, site) = (Fingerprint::from_bytes(token.0.ca), token.0.site);
            let bounds = Bounds { two_way_streams_max: 0, ..super::lab::BOUNDS };
            silent.push(dial_link_join(hq.address(), site, ca, bounds, Way::Quic).await.unwrap());
        }
        joining.spawn(async move {
            let folder = tempfile::tempdir().unwrap();
            let own = Applicant { name: "gw", site: 100 + number };
            accept(&token, folder.path(), "up", own).await.map(|welcome| welcome.name)
        });
    }
    let mut names = Vec::new();
    while let Some(joined) = joining.join_next().await {
        names.push(joined.unwrap().unwrap());
    }
    names.sort();
    let mut expected: Vec<_> = (0..EDGES).map(|number| format!("plant-{number}")).collect();
    expected.sort();
    assert_eq!(names, expected);
}
