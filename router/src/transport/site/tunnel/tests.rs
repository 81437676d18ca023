//! Tunnels between real endpoints on the loopback interface: what goes by UDP goes by TCP, and who means harm has few seats.

use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quinn::AsyncUdpSocket;
use quinn::udp::{RecvMeta, Transmit};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::socket::{Tunnel, TunnelSocket};
use crate::transport::{
    Bounds, Ended, LinkIdentity, LinkPeer, NodeId, NodeKey, SiteConnection, SiteEndpoint, SiteIdentity, SiteProtocol,
    Way, dial_link, dial_link_join, pair, site_endpoint,
};

const LONG: Duration = Duration::from_secs(40);
const SITE: u64 = 0x51;
const BOUNDS: Bounds = Bounds { idle_max: Duration::from_secs(30), ..pair::BOUNDS };

fn site() -> Arc<SiteIdentity> {
    let folder = tempfile::tempdir().unwrap();
    Arc::new(SiteIdentity::init(&folder.path().join("site"), SITE, NodeId(1), "n1").unwrap())
}

fn link_into(site: &SiteIdentity) -> LinkIdentity {
    let (folder, key) = (tempfile::tempdir().unwrap(), NodeKey::draw().unwrap());
    let peer = LinkPeer { node: NodeId(7), link: 9 };
    let (certificate, ca) = site.admit_link(peer, "plant", key.public(), None).unwrap();
    LinkIdentity::install(&folder.path().join("hq"), (&certificate, &ca), &key, &[]).unwrap()
}

fn listen(identity: &Arc<SiteIdentity>) -> (SiteEndpoint, SocketAddr) {
    let endpoint = site_endpoint(SocketAddr::from(([127, 0, 0, 1], 0)), Arc::clone(identity), BOUNDS).unwrap();
    let address = endpoint.address().unwrap();
    (endpoint, address)
}

async fn accept(endpoint: &SiteEndpoint) -> Result<SiteConnection, Ended> {
    timeout(LONG, endpoint.accept()).await.unwrap().unwrap().shake_hands().await
}

/// Both ends of a link's connection to `at`, which leads to the endpoint.
async fn meet(endpoint: &SiteEndpoint, at: SocketAddr, link: &LinkIdentity) -> (SiteConnection, SiteConnection) {
    let dialled = async { timeout(LONG, dial_link(at, link, BOUNDS, None, Way::Tcp)).await.unwrap().unwrap() };
    let (dialled, taken) = tokio::join!(dialled, accept(endpoint));
    (dialled, taken.unwrap())
}

/// Sends a frame there and a short one back.
async fn exchange(from: &SiteConnection, to: &SiteConnection, frame: &[u8]) {
    let sends = async {
        let (mut send, mut receive) = from.open().await.unwrap();
        send.send_frame(frame).await.unwrap();
        send.finish();
        assert_eq!(receive.receive_frame(8).await.unwrap().as_deref(), Some(&b"stored"[..]));
    };
    let takes = async {
        let (mut send, mut receive) = to.accept().await.unwrap();
        assert_eq!(receive.receive_frame(8 << 20).await.unwrap().as_deref(), Some(frame));
        send.send_frame(b"stored").await.unwrap();
        send.finish();
    };
    timeout(LONG, async { tokio::join!(sends, takes) }).await.unwrap();
}

/// A way by TCP that stands still for a time, or is cut.
struct Hose {
    address: SocketAddr,
    stands_still: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Hose {
    async fn to(address: SocketAddr) -> Hose {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (here, stands_still) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let still = Arc::clone(&stands_still);
        let task = tokio::spawn(async move {
            let (near, _) = listener.accept().await.unwrap();
            let far = TcpStream::connect(address).await.unwrap();
            let ((near_from, near_to), (far_from, far_to)) = (near.into_split(), far.into_split());
            tokio::select! {
                () = pour(near_from, far_to, &still) => {}
                () = pour(far_from, near_to, &still) => {}
            }
        });
        Hose { address: here, stands_still, task }
    }
}

async fn pour(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    stands_still: &AtomicBool,
) {
    let mut bytes = [0; 4 << 10];
    while let Ok(count) = from.read(&mut bytes).await {
        while stands_still.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(5)).await;
        }
        if count == 0 || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_link_goes_by_tcp_as_it_goes_by_udp() {
    let identity = site();
    let (endpoint, at) = listen(&identity);
    let link = link_into(&identity);
    let (near, far) = meet(&endpoint, at, &link).await;
    assert_eq!((near.way(), far.way(), far.protocol()), (Way::Tcp, Way::Tcp, SiteProtocol::Link));
    assert_eq!(far.link(), Some(link.peer()));
    assert_eq!((near.address(), near.is_cut()), (at, false));
    // More than one who is unknown may have, and both ways at once.
    let frame: Vec<u8> = (0..3 << 20).map(|at: u32| at.to_le_bytes()[1]).collect();
    for _ in 0..3 {
        exchange(&near, &far, &frame).await;
    }
    let sent = near.traffic();
    assert!(sent.lost == 0 && sent.sent_bytes > 9 << 20, "{sent:?}");
    // By UDP beside it, at the same port.
    let by_udp = async { timeout(LONG, dial_link(at, &link, BOUNDS, None, Way::Quic)).await.unwrap().unwrap() };
    let (by_udp, taken) = tokio::join!(by_udp, accept(&endpoint));
    assert_eq!((by_udp.way(), taken.unwrap().way()), (Way::Quic, Way::Quic));
    // What is said at the end is heard, whoever says it.
    near.close(7, "enough");
    assert_eq!(timeout(LONG, far.ended()).await.unwrap(), Ended::Closed { code: 7, text: "enough".to_owned() });
    assert_eq!(near.ended().await, Ended::Here);
    let (near, _far) = meet(&endpoint, at, &link).await;
    endpoint.close(3, "the node was stopped", LONG).await;
    let stopped = Ended::Closed { code: 3, text: "the node was stopped".to_owned() };
    assert_eq!(timeout(LONG, near.ended()).await.unwrap(), stopped);
    assert!(TcpStream::connect(at).await.is_err(), "it takes no more");
}

#[tokio::test]
async fn a_tcp_that_stands_still_is_no_loss_and_one_that_is_cut_is_told_at_once() {
    let identity = site();
    let (endpoint, at) = listen(&identity);
    let hose = Hose::to(at).await;
    let (near, far) = meet(&endpoint, hose.address, &link_into(&identity)).await;
    exchange(&near, &far, &vec![1; 1 << 20]).await;
    let before = near.traffic();
    hose.stands_still.store(true, Ordering::Relaxed);
    let frame = vec![2; 4 << 20];
    let stalled = async {
        sleep(Duration::from_secs(3)).await;
        hose.stands_still.store(false, Ordering::Relaxed);
    };
    tokio::join!(exchange(&near, &far, &frame), stalled);
    let after = near.traffic();
    let sent = after.sent_bytes - before.sent_bytes;
    assert_eq!(after.lost, 0, "{after:?}");
    // The frame, what QUIC and the tunnel add, and QUIC's probes.
    assert!(sent < (4 << 20) * 105 / 100, "{sent} bytes for {}", frame.len());
    hose.task.abort();
    let began = Instant::now();
    for ended in [timeout(LONG, near.ended()), timeout(LONG, far.ended())] {
        assert_eq!(ended.await.unwrap(), Ended::Cut);
    }
    assert!(near.is_cut() && far.is_cut() && began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn certificates_count_as_they_do_by_udp_and_nodes_of_a_site_do_not_come_by_tcp() {
    let (identity, other) = (site(), site());
    let (endpoint, at) = listen(&identity);
    let (_, taken) = tokio::join!(
        async {
            let dialled = dial_link_join(at, SITE, identity.ca_fingerprint(), BOUNDS, Way::Tcp).await.unwrap();
            let (mut send, _receive) = dialled.open().await.unwrap();
            send.send_frame(b"may I?").await.unwrap();
            dialled.ended().await
        },
        async {
            let taken = accept(&endpoint).await.unwrap();
            assert_eq!((taken.protocol(), taken.link()), (SiteProtocol::LinkJoin, None));
            let (_send, mut receive) = taken.accept().await.unwrap();
            assert_eq!(receive.receive_frame(10).await.unwrap().as_deref(), Some(&b"may I?"[..]));
            taken.close(0, "");
        }
    );
    let () = taken;
    // The dialling side finds out by TLS already.
    let refused = [
        dial_link(at, &link_into(&other), BOUNDS, None, Way::Tcp).await,
        dial_link_join(at, SITE, other.ca_fingerprint(), BOUNDS, Way::Tcp).await,
    ];
    for (refused, says) in refused.into_iter().zip(["is not signed by this site's CA", "CA that the token names"]) {
        let error = refused.unwrap_err().to_string();
        assert!(error.contains(says), "{error:?} lacks {says:?}");
    }
    let within = super::super::dial::to_node(&identity, NodeId(1), Arc::default()).unwrap();
    let verifier = super::SiteVerifier::new(SITE, identity.ca(), None).unwrap();
    let dialled = super::dial(at, verifier, within, "x.edgeway");
    let (dialled, taken) = tokio::join!(dialled, accept(&endpoint));
    assert_eq!(taken.unwrap_err(), Ended::Protocol);
    let (connection, _tunnel) = dialled.unwrap();
    let ended = Ended::from(timeout(LONG, connection.closed()).await.unwrap());
    assert!(ended.to_string().contains("links alone"), "{ended}");
}

#[tokio::test]
async fn who_is_a_stranger_to_the_end_may_lose_its_seat_whenever_that_is() {
    let identity = site();
    let (endpoint, at) = listen(&identity);
    let (near, far) = meet(&endpoint, at, &link_into(&identity)).await;
    let joins = async { dial_link_join(at, SITE, identity.ca_fingerprint(), BOUNDS, Way::Tcp).await.unwrap() };
    let (joins, taken) = tokio::join!(joins, accept(&endpoint));
    let taken = taken.unwrap();
    assert_eq!(taken.protocol(), SiteProtocol::LinkJoin);
    // As many others as there are seats for strangers, from more than one address; again and again, as each is sent away that says nothing.
    let crowd = async {
        loop {
            let mut others = Vec::new();
            for n in 0..32 {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind(SocketAddr::from(([127, 0, 0, 2 + n / 8], 0))).unwrap();
                others.push(socket.connect(at).await.unwrap());
            }
            sleep(Duration::from_millis(500)).await;
        }
    };
    let ended = tokio::select! {
        ended = timeout(LONG, joins.ended()) => ended.unwrap(),
        () = crowd => unreachable!(),
    };
    assert_eq!(ended, Ended::Closed { code: 1, text: "others have come: try again in a moment".to_owned() });
    timeout(LONG, taken.ended()).await.unwrap();
    exchange(&near, &far, &[7; 1_000]).await;
}

/// Whether the other side closes within a time.
async fn is_closed(stream: &mut TcpStream, within: Duration) -> bool {
    let mut bytes = [0; 1 << 10];
    let read = async { while matches!(stream.read(&mut bytes).await, Ok(count) if count > 0) {} };
    timeout(within, read).await.is_ok()
}

#[tokio::test]
async fn who_says_nothing_or_garbage_is_sent_away_and_takes_no_seat_from_others() {
    let identity = site();
    let (endpoint, at) = listen(&identity);
    let link = link_into(&identity);
    let (near, far) = meet(&endpoint, at, &link).await;
    // More of them than an address has seats: those beyond are closed at once, the others when they have said nothing in time.
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(at).await.unwrap());
    }
    let mut at_once = 0;
    for stream in silent.iter_mut().skip(8) {
        at_once += usize::from(is_closed(stream, Duration::from_millis(500)).await);
    }
    assert_eq!(at_once, 32);
    for stream in &mut silent {
        assert!(is_closed(stream, LONG).await);
    }
    let mut garbage = TcpStream::connect(at).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(is_closed(&mut garbage, LONG).await);
    // One that speaks TLS and then says nothing, or what is no datagram.
    for says in [&b""[..], &[0, 0], &[0xff; 20], &[0, 3, 1, 2, 3]] {
        let mut stream = tls(&identity, at).await;
        stream.write_all(says).await.unwrap();
        let closed = timeout(LONG, async { while stream.read_u8().await.is_ok() {} });
        closed.await.unwrap();
    }
    // The link has not felt any of it, and others come in.
    exchange(&near, &far, &[5; 1_000]).await;
    let (near, far) = meet(&endpoint, at, &link).await;
    exchange(&near, &far, &[6; 1_000]).await;
}

/// The TLS connection alone.
async fn tls(identity: &SiteIdentity, at: SocketAddr) -> tokio_rustls::client::TlsStream<TcpStream> {
    let verifier = super::SiteVerifier::new(SITE, identity.ca(), None).unwrap();
    let mut tls = super::builder()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    tls.alpn_protocols = vec![super::TUNNEL_ALPN.to_vec()];
    let stream = TcpStream::connect(at).await.unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(tls)).connect("x.edgeway".try_into().unwrap(), stream).await.unwrap()
}

/// What the endpoint takes of what has come, in one go.
async fn take(socket: &TunnelSocket) -> Vec<u8> {
    let (mut bytes, mut about) = ([0; 64], [RecvMeta::default()]);
    let taken = std::future::poll_fn(|context| {
        socket.poll_recv(context, &mut [IoSliceMut::new(&mut bytes)], &mut about).map(Result::unwrap)
    });
    assert_eq!(timeout(LONG, taken).await.unwrap(), 1);
    bytes[..about[0].len].to_vec()
}

/// The end of a tunnel over a stream in memory, what moves its bytes, and the other side's end of the stream.
fn tunnel() -> (TunnelSocket, JoinHandle<()>, DuplexStream) {
    let (here, there) = tokio::io::duplex(1 << 10);
    let (tunnel, local) = (Arc::new(Tunnel::default()), SocketAddr::from(([127, 0, 0, 1], 1)));
    let carried = tokio::spawn(super::carry(here, Arc::clone(&tunnel)));
    (TunnelSocket { tunnel, local, peer: local }, carried, there)
}

#[tokio::test]
async fn an_endpoint_that_is_busy_hears_the_last_words_before_the_end() {
    let (socket, carried, mut there) = tunnel();
    there.write_all(&[0, 2, b'o', b'k', 0, 1, b'!']).await.unwrap();
    drop(there);
    let is_early = timeout(Duration::from_millis(300), socket.tunnel.broken()).await.is_ok();
    assert!(!is_early, "it would be closed before it has heard them");
    assert_eq!((take(&socket).await, take(&socket).await), (b"ok".to_vec(), b"!".to_vec()));
    timeout(LONG, carried).await.unwrap().unwrap();
    assert!(socket.tunnel.is_cut());
    // One that takes nothing is not waited for.
    let (socket, carried, mut there) = tunnel();
    there.write_all(&[0, 1, b'!']).await.unwrap();
    drop(there);
    timeout(LONG, carried).await.unwrap().unwrap();
    assert!(socket.tunnel.is_cut());
}

#[tokio::test]
async fn who_has_said_its_last_words_listens_until_the_other_side_ends() {
    let (socket, carried, mut there) = tunnel();
    let contents = b"bye";
    let transmit = Transmit { destination: socket.peer, ecn: None, contents, segment_size: None, src_ip: None };
    socket.try_send(&transmit).unwrap();
    drop(socket);
    let mut heard = [0; 5];
    there.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"\0\x03bye");
    assert_eq!(there.read(&mut heard).await.unwrap(), 0, "nothing more is said");
    // More than waits anywhere: a socket that is closed with something unread takes back what was said.
    for _ in 0..200 {
        there.write_all(&[[0, 62].as_slice(), &[7; 62]].concat()).await.unwrap();
    }
    drop(there);
    timeout(LONG, carried).await.unwrap().unwrap();
}
