//! Who may be of a site: tokens, wiped nodes, copied ones, those that leave and those that are taken out.

use std::fs;

use edgeway::security::JoinToken;

use super::load::{Load, check, make_topics};
use crate::harness::cli::Ran;
use crate::harness::site::{Site, join};
use crate::harness::wait;

/// A join that must be refused, with its exit code and a part of its reason; nothing is left of it.
fn refused(token: &str, code: i32, reason: &str) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let Ran { code: ended, out, err } = join(&data, token, "stranger", "127.0.0.1:14569");
    assert_eq!(ended, code, "{reason}: {out}{err}");
    assert!(err.contains(reason), "{reason}: {err}");
    assert!(!data.join("site").exists(), "{reason}");
}

#[test]
fn a_token_lets_one_node_in_once() {
    let mut site = Site::found("");
    let token = site.token();
    refused("", 2, "no join token");
    refused("edgeway-join-2.AAAA", 2, "later version");
    refused("sesame", 2, "no join token");
    refused(&token[..token.len() - 7], 2, "cut or mistyped");
    refused(&token.replacen(&token[20..24], "AAAA", 1), 2, "cut or mistyped");
    let known: JoinToken = token.parse().unwrap();
    let guessed = JoinToken { secret: [7; 32], ..known.clone() };
    refused(&guessed.to_string(), 1, "token");
    let elsewhere = JoinToken { ca: [7; 32], ..known.clone() };
    let failed =
        join(&tempfile::tempdir().unwrap().path().join("data"), &elsewhere.to_string(), "n2", "127.0.0.1:14569");
    assert_ne!(failed.code, 0, "another CA's site: {failed:?}");
    let nowhere = JoinToken { addresses: vec![format!("127.0.0.1:{}", crate::harness::site::free_port())], ..known };
    refused(&nowhere.to_string(), 3, "no node of the site can be reached");

    // After all that the token still serves, once.
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    join(&data, &token, "first", "127.0.0.1:14569").ok();
    refused(&token, 1, "used");
    let again = join(&data, &site.token(), "first", "127.0.0.1:14569");
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.err.contains("is there already"), "{again:?}");
    let taken = site.token();
    let folder = tempfile::tempdir().unwrap();
    let namesake = join(&folder.path().join("data"), &taken, "first", "127.0.0.1:14569");
    assert_eq!(namesake.code, 1, "{namesake:?}");
    assert!(namesake.err.contains("first"), "{namesake:?}");

    // One that never starts is a node all the same, and can be removed.
    let listed = site[0].cli(&["node", "list"]).ok();
    assert!(listed.out.contains("first"), "{}", listed.out);
    site[0].cli(&["node", "remove", "first"]).ok();
    assert!(!site[0].cli(&["node", "list"]).ok().out.contains("first"));
    let joined = site.join();
    site.wait_level();
    assert_eq!(site.status(joined)["nodes"].as_array().unwrap().len(), 2);
}

#[test]
fn a_wiped_node_comes_back_as_a_new_one_and_a_copy_of_one_is_kept_out() {
    let mut site = Site::of(3);
    make_topics(&site);
    let load = Load::start(&site, "first");
    load.wait(300);
    let mut records = load.stop();
    site.wait_level();

    // The store is gone, the certificate is there.
    site.kill(&[2]);
    fs::remove_dir_all(site[2].data().join("store")).unwrap();
    let (status, said) = site.members[2].node.run_refused();
    assert!(!status.success());
    assert!(said.contains("comes back as a new one"), "{said}");
    site.members.remove(2);
    site[0].cli(&["node", "remove", "n3"]).ok();
    let new = site.join();
    site.wait_level();
    let names = |place| -> Vec<String> {
        let status = site.status(place);
        let nodes = status["nodes"].as_array().unwrap();
        let mut names: Vec<String> = nodes.iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect();
        names.sort_unstable();
        names
    };
    wait::until_true("all list the same", || (0..3).all(|place| names(place) == ["n1", "n2", "n4"]));
    check(&site, &records);
    let load = Load::start(&site, "second");
    load.wait(300);
    records.extend(load.stop());
    site.wait_level();
    check(&site, &records);

    // Two nodes of one data folder.
    assert!(site.members[new].node.stop().success());
    let mut copy = site.copied(new);
    site.run(&[new]);
    site.wait_level();
    copy.run_kept_out("two nodes run as node");
    wait::until_true("the copy is told of", || (0..2).any(|place| site.troubles(place).contains(&"copied".to_owned())));
    let told = [0, 1].map(|place| site[place].cli(&["node", "status"]).ok().out).concat();
    assert!(told.contains("runs twice"), "{told}");
    let load = Load::start(&site, "third");
    load.wait(300);
    records.extend(load.stop());
    site.wait_level();
    check(&site, &records);
    copy.kill();
}

#[test]
fn nodes_leave_and_are_removed() {
    let mut site = Site::of(3);
    make_topics(&site);
    let load = Load::start(&site, "three");
    load.wait(200);
    let records = load.stop();
    site.wait_level();
    let leaving = site.members.len() - 1;
    site[leaving].cli(&["node", "leave"]).ok();
    assert!(site.members[leaving].node.wait_end(std::time::Duration::from_secs(30)).success());
    wait::until_true("it is not listed", || site.status(0)["nodes"].as_array().unwrap().len() == 2);
    // What it wrote stays, and it is no member when it is started again.
    check(&site, &records);
    site.members.pop();

    let joined = site.join();
    site.wait_level();
    check(&site, &records);
    site[0].cli(&["node", "remove", &site.members[joined].name]).ok();
    wait::until_true("it knows", || {
        // It may have stopped by then.
        let told = site[joined].cli(&["node", "status"]);
        told.code != 0 || told.out.contains("removed")
    });
    wait::until_true("it is not listed", || site.status(0)["nodes"].as_array().unwrap().len() == 2);
    let gone = site[0].cli(&["node", "remove", "nobody"]);
    assert_ne!(gone.code, 0, "{gone:?}");
    assert!(gone.err.contains("nobody"), "{gone:?}");
}
