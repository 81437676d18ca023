//! Many edges accept their invitations at once, beside some who come and say nothing.

use tokio::task::JoinSet;

use super::lab::{LONG, Site};
use crate::links::accept::{Applicant, accept};
use crate::links::invite::{self, ANSWER_BYTES_MAX, Answer, Request};
use crate::transport::{Bounds, Fingerprint, Question, Way, dial_link_join};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_without_a_key_does_not_spend_the_token() {
    let (plant, hq) = (Site::new(1).await, Site::new(2).await);
    let token = hq.invite("plant").await;
    let request = Request {
        secret: token.0.secret,
        name: "gw".to_owned(),
        site: 1,
        public_key: vec![4; 64],
        program: "0".to_owned(),
        protocol: crate::links::PROTOCOL,
    };
    let bytes = invite::encode(&request);
    let question = Question { bytes: &bytes, answer_bytes_max: ANSWER_BYTES_MAX, answer_wait: LONG };
    let ca = Fingerprint::from_bytes(token.0.ca);
    let asked = question.ask(|bounds| dial_link_join(hq.address(), token.0.site, ca, bounds, Way::Quic)).await.unwrap();
    let answer: Answer = invite::decode(&asked).unwrap();
    assert!(matches!(&answer, Answer::Refusal(refusal) if refusal.code == "invalid"), "{answer:?}");
    plant.open_edge(vec![]);
    assert_eq!(plant.edge().accept(&token, "up").await.unwrap(), "plant");
}
