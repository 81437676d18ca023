//! A site's folder, and handshakes between real endpoints on the loopback interface.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::pair::BOUNDS;
use super::*;
use crate::transport::{Fingerprint, NodeId, StreamError};

const LONG: Duration = Duration::from_secs(40);
const SITE: u64 = 0x51;

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A node of a site that `first` has made.
fn admitted(first: &SiteIdentity, node: u64) -> Arc<SiteIdentity> {
    let folder = tempfile::tempdir().unwrap();
    let key = NodeKey::draw().unwrap();
    let admitted = first.admit(NodeId(node), "n", key.public()).unwrap();
    Arc::new(SiteIdentity::install(&folder.path().join("site"), &admitted, &key, &[]).unwrap())
}

fn site(site: u64, node: u64) -> Arc<SiteIdentity> {
    let folder = tempfile::tempdir().unwrap();
    Arc::new(SiteIdentity::init(&folder.path().join("site"), site, NodeId(node), "n1").unwrap())
}

fn at(identity: &Arc<SiteIdentity>) -> (SiteEndpoint, SocketAddr) {
    let endpoint = site_endpoint(loopback(), Arc::clone(identity), BOUNDS).unwrap();
    let address = endpoint.address().unwrap();
    (endpoint, address)
}

async fn accept(endpoint: &SiteEndpoint) -> Result<SiteConnection, Ended> {
    timeout(LONG, endpoint.accept()).await.unwrap().unwrap().shake_hands().await
}

/// Both sides' ends of one attempt.
async fn meet(
    from: &SiteEndpoint,
    to: &(SiteEndpoint, SocketAddr),
    expected: u64,
) -> (Result<SiteConnection, Ended>, Result<SiteConnection, Ended>) {
    let (dialled, taken) = tokio::join!(timeout(LONG, from.dial(to.1, NodeId(expected))), accept(&to.0));
    (dialled.unwrap(), taken)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_folder_is_read_as_it_was_made_and_its_keys_are_for_their_owner_alone() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("site");
    assert!(SiteIdentity::read(&folder).unwrap().is_none());
    let made = SiteIdentity::init(&folder, SITE, NodeId(1), "n1").unwrap();
    let read = SiteIdentity::read(&folder).unwrap().unwrap();
    assert_eq!((read.site(), read.node(), read.ca_fingerprint()), (SITE, NodeId(1), made.ca_fingerprint()));
    assert_eq!(read.chain, made.chain);
    assert_eq!((mode(&folder), mode(&folder.join("ca.key")), mode(&folder.join("node.key"))), (0o700, 0o600, 0o600));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 4);
    assert_eq!(fs::read_dir(data.path()).unwrap().count(), 1, "nothing half made is left");
    let again = SiteIdentity::init(&folder, SITE, NodeId(1), "n1").unwrap_err().to_string();
    assert!(again.contains("is of a site already"), "{again}");
    for secret in [format!("{read:?}"), format!("{:?}", made.admit(NodeId(2), "n2", NodeKey::draw().unwrap().public()))]
    {
        assert!(!secret.contains("PRIVATE"), "{secret}");
    }
}

#[test]
fn a_crash_leaves_no_place_or_a_whole_one() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("site");
    let first = site(SITE, 1);
    let key = NodeKey::waiting(&folder).unwrap();
    let again = NodeKey::waiting(&folder).unwrap();
    assert_eq!(key.public(), again.public(), "one that was cut off comes back with its key");
    let admitted = first.admit(NodeId(2), "n2", key.public()).unwrap();
    assert!(SiteIdentity::read(&folder).unwrap().is_none(), "a key alone is no place in a site");
    // What a crash in the midst leaves.
    fs::write(data.path().join("site.new/ca.crt"), "half").unwrap();
    fs::write(data.path().join("site.new/ca.key.new"), "half").unwrap();
    assert!(SiteIdentity::read(&folder).unwrap().is_none());
    SiteIdentity::install(&folder, &admitted, &key, &[("more", b"text")]).unwrap();
    let read = SiteIdentity::read(&folder).unwrap().unwrap();
    assert_eq!((read.site(), read.node()), (SITE, NodeId(2)));
    assert_eq!(SiteIdentity::further(&folder, "more").unwrap().as_deref(), Some(&b"text"[..]));
    assert_eq!(SiteIdentity::further(&folder, "less").unwrap(), None);
    assert!(!data.path().join("site.new").exists());
}

#[test]
fn a_folder_that_cannot_be_used_says_why() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("site");
    SiteIdentity::init(&folder, SITE, NodeId(1), "n1").unwrap();
    let other = data.path().join("other");
    SiteIdentity::init(&other, SITE, NodeId(2), "n2").unwrap();
    // (the file that is replaced, by what, what the error must say)
    let of_other = |file: &str| Some(fs::read(other.join(file)).unwrap());
    let cases = [
        ("node.key", None, "lacks node.key"),
        ("ca.crt", None, "lacks ca.crt"),
        ("node.key", of_other("node.key"), "the node's key does not belong to its certificate"),
        ("ca.key", of_other("ca.key"), "the CA's key does not belong to its certificate"),
        ("node.crt", of_other("node.crt"), "the node's key does not belong"),
        ("node.crt", Some(b"garbage".to_vec()), "the node's certificate is not in PEM form"),
        ("ca.key", Some(b"garbage".to_vec()), "the CA's key is not in PEM form"),
        ("ca.key", Some(vec![b'x'; 70 << 10]), "at most 65536 are taken"),
    ];
    for (file, content, expected) in cases {
        let path = folder.join(file);
        let before = fs::read(&path).unwrap();
        match content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let error = SiteIdentity::read(&folder).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
        fs::write(&path, before).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::set_permissions(folder.join("ca.key"), fs::Permissions::from_mode(0o604)).unwrap();
    let error = SiteIdentity::read(&folder).unwrap_err().to_string();
    assert!(error.contains("may be read by anybody"), "{error}");
}

#[test]
fn what_is_admitted_has_to_belong_together() {
    let (first, other) = (site(SITE, 1), site(SITE, 1));
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("site");
    let key = NodeKey::draw().unwrap();
    let mut admitted = first.admit(NodeId(2), "n2", key.public()).unwrap();
    let of_other = other.admit(NodeId(2), "n2", key.public()).unwrap();
    (admitted.ca, admitted.ca_key) = (of_other.ca, of_other.ca_key);
    let error = SiteIdentity::install(&folder, &admitted, &key, &[]).unwrap_err().to_string();
    assert!(error.contains("is not signed by this site's CA"), "{error}");
    assert!(!folder.exists());
    for wrong in [&b""[..], &[4; 64], &[5; 65], &[4; 66]] {
        assert!(matches!(first.admit(NodeId(2), "n2", wrong), Err(SiteError::PublicKey)));
    }
}

#[test]
fn a_links_new_certificate_is_kept_whole_or_not_at_all() {
    let (upstream, other) = (site(SITE, 1), site(SITE, 1));
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("hq");
    let peer = LinkPeer { node: NodeId(7), link: 9 };
    let sign = |site: &SiteIdentity, peer: LinkPeer, key: &NodeKey, until| {
        site.admit_link(peer, "plant", key.public(), until).unwrap()
    };
    let first = NodeKey::draw().unwrap();
    let (certificate, ca) = sign(&upstream, peer, &first, None);
    let link = LinkIdentity::install(&folder, (&certificate, &ca), &first, &[("link.json", b"{}")]).unwrap();
    assert_eq!(link.until_s(), None);
    let until = Some(1_900_000_000);
    let (key, another) = (NodeKey::draw().unwrap(), NodeKey::draw().unwrap());
    let (new, _) = sign(&upstream, peer, &key, until);
    // (what is given, the key, what the error must say)
    let wrong = [
        (sign(&other, peer, &key, until).0, &key, "not signed by this site's CA"),
        (sign(&upstream, LinkPeer { link: 8, ..peer }, &key, until).0, &key, "another link"),
        (sign(&upstream, LinkPeer { node: NodeId(8), ..peer }, &key, until).0, &key, "another link"),
        (new.clone(), &another, "does not belong to its certificate"),
        (new[..new.len() / 2].to_owned(), &key, "not in PEM form"),
        (String::new(), &key, "not in PEM form"),
    ];
    for (certificate, key, says) in wrong {
        let error = link.renew(&folder, &certificate, key).unwrap_err().to_string();
        assert!(error.contains(says), "{error:?} lacks {says:?}");
    }
    // What a crash leaves before the file has its name is not looked at, and does not stand in the way.
    fs::write(folder.join("renewed.pem.new"), "half").unwrap();
    assert_eq!(LinkIdentity::read(&folder).unwrap().until_s(), None);
    let renewed = link.renew(&folder, &new, &key).unwrap();
    let read = LinkIdentity::read(&folder).unwrap();
    assert_eq!((renewed.until_s(), read.until_s(), read.peer(), read.site()), (until, until, peer, SITE));
    assert_eq!(mode(&folder.join("renewed.pem")), 0o600);
    assert!(!folder.join("renewed.pem.new").exists());
    let (newest, _) = sign(&upstream, peer, &another, Some(2_000_000_000));
    read.renew(&folder, &newest, &another).unwrap();
    assert_eq!(LinkIdentity::read(&folder).unwrap().until_s(), Some(2_000_000_000));
    // A program of before reads the same in its own files, a crash in between or not.
    fs::write(folder.join("node.crt"), &new).unwrap();
    assert_eq!(LinkIdentity::read(&folder).unwrap().until_s(), Some(2_000_000_000));
    assert_eq!(fs::read_to_string(folder.join("node.crt")).unwrap(), newest);
    assert_eq!(mode(&folder.join("node.key")), 0o600);
    // The disk has lost it: it is there twice.
    let whole = fs::read(folder.join("renewed.pem")).unwrap();
    for length in [0, 1, whole.len() / 3, whole.len() - 40] {
        fs::write(folder.join("renewed.pem"), &whole[..length]).unwrap();
        assert_eq!(LinkIdentity::read(&folder).unwrap().until_s(), Some(2_000_000_000), "{length} bytes of it");
    }
    // An end is never before the moment at which signatures are judged.
    let (early, _) = sign(&upstream, peer, &key, Some(5));
    assert_eq!(link.renew(&folder, &early, &key).unwrap().until_s(), Some(verify::JUDGED_AT_S + 1));
}

#[tokio::test]
async fn two_nodes_of_a_site_know_each_other() {
    let first = site(SITE, 1);
    let (near, far) = (at(&first), at(&admitted(&first, 2)));
    let (dialled, taken) = meet(&near.0, &far, 2).await;
    let (dialled, taken) = (dialled.unwrap(), taken.unwrap());
    assert_eq!((dialled.peer(), dialled.protocol()), (Some(NodeId(2)), SiteProtocol::Site));
    assert_eq!((taken.peer(), taken.protocol()), (Some(NodeId(1)), SiteProtocol::Site));
    assert_eq!(taken.address(), near.1, "dialled from the port that it listens at");
    dialled.send_datagram(b"beat".to_vec());
    assert_eq!(&taken.receive_datagram().await.unwrap()[..], b"beat");
    // More than what one that is unknown may have: the bounds have been raised.
    let body = vec![7; 3 << 20];
    let sends = send_bodies(&dialled, 5, &body);
    let takes = async {
        for _ in 0..5 {
            let (mut send, mut receive) = taken.accept().await.unwrap();
            assert_eq!(receive.receive_frame(4 << 20).await.unwrap().unwrap().len(), 3 << 20);
            assert_eq!(receive.receive_frame(4 << 20).await.unwrap(), None);
            send.send_frame(b"").await.unwrap();
            send.finish();
        }
    };
    timeout(LONG, async { tokio::join!(sends, takes) }).await.unwrap();
    dialled.close(7, "enough");
    assert_eq!(taken.ended().await, Ended::Closed { code: 7, text: "enough".to_owned() });
    assert_eq!(dialled.ended().await, Ended::Here);
}

async fn send_bodies(connection: &SiteConnection, count: usize, body: &[u8]) {
    for _ in 0..count {
        let (mut send, mut receive) = connection.open().await.unwrap();
        send.send_frame(body).await.unwrap();
        send.finish();
        assert_eq!(receive.receive_frame(0).await.unwrap(), Some(Vec::new()));
    }
}

#[tokio::test]
async fn who_is_not_of_the_site_is_told_so() {
    let first = site(SITE, 1);
    let near = at(&first);
    let second = at(&admitted(&first, 2));
    // (who is dialled, the node that is expected, what the dialling side must say)
    let cases = [
        (at(&site(0x52, 2)), 2, "of another site, 0000000000000052; this site is 0000000000000051"),
        (at(&site(SITE, 2)), 2, "node 0000000000000002 of this site, but is not signed by this site's CA"),
        (second, 3, "that of node 0000000000000002; node 0000000000000003 was expected"),
    ];
    for (far, expected, says) in cases {
        let (dialled, taken) = meet(&near.0, &far, expected).await;
        let Err(Ended::Certificate(why)) = dialled else { panic!("{dialled:?}") };
        assert!(why.contains(says), "{why:?} lacks {says:?}");
        let Err(Ended::CertificateRefused(why)) = taken else { panic!("{taken:?}") };
        assert!(why.contains(says), "{why:?} lacks {says:?}");
    }
}

#[tokio::test]
async fn a_dialler_of_another_site_is_refused_and_learns_why() {
    let other = site(0x52, 2);
    let (near, far) = (site(SITE, 1), at(&other));
    let config = dial::disguised(&near, &other);
    let endpoint = crate::transport::client(loopback()).unwrap();
    let dialled = dial::connect(&endpoint, config, far.1, "x");
    let (dialled, taken) = tokio::join!(dialled, accept(&far.0));
    let Err(Ended::Certificate(why)) = taken else { panic!("{taken:?}") };
    assert!(why.contains("of another site, 0000000000000051"), "{why}");
    let ended = match dialled {
        Ok(connection) => connection.ended().await,
        Err(ended) => ended,
    };
    let Ended::CertificateRefused(why) = ended else { panic!("{ended:?}") };
    assert!(why.contains("of another site, 0000000000000051"), "{why}");
}

#[tokio::test]
async fn one_without_a_certificate_may_join_and_nothing_else() {
    let first = site(SITE, 1);
    let far = at(&first);
    let pin = first.ca_fingerprint();
    let (dialled, taken) = tokio::join!(dial_join(far.1, SITE, pin, BOUNDS), accept(&far.0));
    let (dialled, taken) = (dialled.unwrap(), taken.unwrap());
    assert_eq!((taken.peer(), taken.protocol()), (None, SiteProtocol::Join));
    assert_eq!((dialled.peer(), dialled.protocol()), (Some(NodeId(1)), SiteProtocol::Join));
    let _stream = dialled.open().await.unwrap();
    timeout(Duration::from_millis(200), dialled.open()).await.expect_err("one stream is all that it gets");

    let endpoint = crate::transport::client(loopback()).unwrap();
    let config = dial::nameless(&first, SITE_ALPN);
    let (dialled, taken) = tokio::join!(dial::connect(&endpoint, config, far.1, "x"), accept(&far.0));
    assert_eq!(taken.unwrap_err(), Ended::Certificate("the other side shows no certificate".to_owned()));
    let ended = match dialled {
        Ok(connection) => connection.ended().await,
        Err(ended) => ended,
    };
    assert!(ended.to_string().contains("shows its certificate"), "{ended}");
}

#[tokio::test]
async fn one_that_joins_takes_the_site_of_its_token_alone() {
    let (first, wrong) = (site(SITE, 1), site(0x52, 1));
    let far = at(&first);
    let wrong_pin: Fingerprint = wrong.ca_fingerprint();
    // (site, CA, what is said)
    let cases = [
        (SITE, wrong_pin, "does not have the CA that the token names"),
        (0x52, wrong_pin, "of another site"),
        (0x52, first.ca_fingerprint(), "of another site"),
    ];
    for (site, pin, says) in cases {
        let (dialled, taken) = tokio::join!(dial_join(far.1, site, pin, BOUNDS), accept(&far.0));
        let error = dialled.unwrap_err().to_string();
        assert!(error.contains(says), "{error:?} lacks {says:?}");
        assert!(matches!(taken, Err(Ended::CertificateRefused(_))), "{taken:?}");
    }
}

#[tokio::test]
async fn frames_are_bounded_and_what_is_half_sent_is_not_taken() {
    let first = site(SITE, 1);
    let (near, far) = (at(&first), at(&admitted(&first, 2)));
    let (dialled, taken) = meet(&near.0, &far, 2).await;
    let (dialled, taken) = (dialled.unwrap(), taken.unwrap());
    let stream = || async {
        let (mut send, _receive) = dialled.open().await.unwrap();
        send.send_head(&[9]).await.unwrap();
        let (_send, mut receive) = taken.accept().await.unwrap();
        assert_eq!(receive.receive_head::<1>().await.unwrap(), Some([9]));
        (send, receive)
    };
    let (mut send, mut receive) = stream().await;
    send.send_frame(&[1; 101]).await.unwrap();
    assert_eq!(receive.receive_frame(100).await, Err(StreamError::TooLong { bytes: 101, bytes_max: 100 }));
    receive.stop(5);
    send.stopped().await;
    assert_eq!(send.send_frame(&[1]).await, Err(StreamError::GivenUp(5)));

    let (mut send, mut receive) = stream().await;
    send.send_head(&[100, 0, 0, 0, 1, 2]).await.unwrap();
    timeout(Duration::from_millis(50), receive.receive_frame(100)).await.expect_err("the rest is not there yet");
    send.send_head(&[3; 98]).await.unwrap();
    let frame = timeout(LONG, receive.receive_frame(100)).await.unwrap().unwrap().unwrap();
    assert_eq!((frame.len(), &frame[..3]), (100, &[1, 2, 3][..]), "what had come before was kept");
    send.send_head(&[100, 0, 0, 0, 1]).await.unwrap();
    send.finish();
    assert_eq!(receive.receive_frame(100).await, Err(StreamError::Cut));

    let (mut send, mut receive) = stream().await;
    send.send_head(&[100, 0]).await.unwrap();
    drop(send);
    assert_eq!(receive.receive_frame(100).await, Err(StreamError::GivenUp(0)));
}

/// A way between one that dials and `to` that is cut in one direction: what comes back is dropped once it is told so.
async fn one_way(to: SocketAddr) -> (SocketAddr, Arc<AtomicBool>) {
    let (near, far) = (UdpSocket::bind(loopback()).await.unwrap(), UdpSocket::bind(loopback()).await.unwrap());
    let (address, cut) = (near.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
    let is_cut = Arc::clone(&cut);
    tokio::spawn(async move {
        let (mut there, mut back, mut from) = ([0; 65_535], [0; 65_535], None);
        loop {
            tokio::select! {
                Ok((count, sender)) = near.recv_from(&mut there) => {
                    from = Some(sender);
                    let _ = far.send_to(&there[..count], to).await;
                }
                Ok((count, _)) = far.recv_from(&mut back) => {
                    if let Some(from) = from.filter(|_| !is_cut.load(Ordering::Relaxed)) {
                        let _ = near.send_to(&back[..count], from).await;
                    }
                }
            }
        }
    });
    (address, cut)
}

#[tokio::test]
async fn the_reason_of_an_end_comes_though_the_window_is_full() {
    let first = site(SITE, 1);
    let (near, far) = (at(&first), at(&admitted(&first, 2)));
    let (relay, cut) = one_way(far.1).await;
    let (dialled, taken) = tokio::join!(near.0.dial(relay, NodeId(2)), accept(&far.0));
    let (dialled, taken) = (dialled.unwrap(), taken.unwrap());
    cut.store(true, Ordering::Relaxed);
    // Nothing is confirmed any more: the window fills, and more waits behind it.
    let (mut send, _receive) = dialled.open().await.unwrap();
    let (window, before) = (dialled.inner().congestion_state().window(), dialled.inner().stats().udp_tx.bytes);
    let sends = tokio::spawn(async move { send.send_frame(&vec![7; 1 << 20]).await });
    let full = async {
        while dialled.inner().stats().udp_tx.bytes < before + window - 2 * 1_452 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LONG, full).await.unwrap();
    dialled.close(7, "enough");
    assert_eq!(taken.ended().await, Ended::Closed { code: 7, text: "enough".to_owned() });
    assert!(timeout(LONG, sends).await.unwrap().unwrap().is_err());
}
