//! `edgeway/1`: what a client may not do, and what it is told.

use devices::native::{Close, Event, FromDevice, Hello, Open, Publish};
use devices::sequence::Lane;

use super::client::BOUNDS;
use super::device::{Hold, Stream, framed, hello, number, publish};
use super::*;

/// Bytes on streams that are opened in this order, and the code that the node closes with.
struct Case {
    what: &'static str,
    streams: Vec<Vec<u8>>,
    code: Close,
}

fn case(what: &'static str, code: Close, streams: &[&[Vec<u8>]]) -> Case {
    Case { what, code, streams: streams.iter().map(|frames| frames.concat()).collect() }
}

fn cases() -> Vec<Case> {
    let hi = || hello("bad", true);
    let lane = |number| framed(&Open::Lane(number));
    let long_agent = "a".repeat(129);
    let agent = framed(&Open::Hello(Hello { device: "bad", agent: &long_agent, commands: false, token: b"" }));
    let event = Event { skipped: 0, later_ms: 0, payload: b"", properties: Vec::new() };
    let frame = |boot, first, count| {
        framed(&Publish { topic: "t", boot, first, timestamp_ms: 0, events: vec![event.clone(); count] })
    };
    let too_long = || vec![0xff, 0xff, 0x7f];
    let noise = || vec![3, 0xff, 0xff, 0xff];
    vec![
        case("a lane before Hello", Close::OutOfPlace, &[&[lane(0)]]),
        case("events before Hello", Close::OutOfPlace, &[&[framed(&Open::Events)]]),
        case("noise before Hello", Close::Malformed, &[&[noise()]]),
        case("a first frame that is too long", Close::TooLarge, &[&[too_long()]]),
        case("no name", Close::NotAllowed, &[&[hello("", true)]]),
        case("a name of two levels", Close::NotAllowed, &[&[hello("a/b", true)]]),
        case("an agent that is too long", Close::TooLarge, &[&[agent]]),
        case("noise behind Hello", Close::Malformed, &[&[hi(), noise()]]),
        case("a frame behind Hello that is too long", Close::TooLarge, &[&[hi(), too_long()]]),
        case("a receipt for nothing", Close::OutOfPlace, &[&[hi(), framed(&FromDevice::Received { delivery: 1 })]]),
        case("a second Hello", Close::OutOfPlace, &[&[hi()], &[hi()]]),
        case("no such lane", Close::OutOfPlace, &[&[hi()], &[lane(3)]]),
        case("a stream of noise", Close::Malformed, &[&[hi()], &[noise()]]),
        case(
            "a second events stream",
            Close::OutOfPlace,
            &[&[hi()], &[framed(&Open::Events)], &[framed(&Open::Events)]],
        ),
        case("noise on a lane", Close::Malformed, &[&[hi()], &[lane(1), noise()]]),
        case("noise among wishes", Close::Malformed, &[&[hi()], &[framed(&Open::Events), noise()]]),
        case("a publish that is too long", Close::TooLarge, &[&[hi()], &[lane(1), too_long()]]),
        case("a publish of nothing", Close::OutOfPlace, &[&[hi()], &[lane(1), frame(1, 0, 0)]]),
        case("too many events", Close::TooLarge, &[&[hi()], &[lane(1), frame(1, 0, 4_097)]]),
        case("numbers past 64 bits", Close::OutOfPlace, &[&[hi()], &[lane(1), frame(1, u64::MAX, 2)]]),
        case("numbers that fall", Close::OutOfPlace, &[&[hi()], &[lane(1), frame(1, 5, 2), frame(1, 6, 1)]]),
        case("a boot that falls", Close::OutOfPlace, &[&[hi()], &[lane(1), frame(2, 0, 1), frame(1, 9, 1)]]),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_is_closed_with_its_code_and_nobody_else_is_touched() {
    let node = Node::start();
    let good = node.device("good").await;
    let (mut lane, _) = good.lane(Lane::NORMAL).await;
    let (addr, pin) = (node.listener.addr(), node.listener.fingerprint());
    for (n, Case { what, streams, code: expected }) in (0..).zip(cases()) {
        let before = read(&node.stats.closed[expected as usize]);
        let (_endpoint, connection) = super::device::shake_hands(addr, pin, BOUNDS).await.unwrap();
        let mut open = Vec::new();
        for bytes in &streams {
            let mut stream = Stream::open(&connection).await;
            // The node may have closed meanwhile.
            let _ = soon(stream.send.write_all(bytes)).await;
            open.push(stream);
        }
        let closed = code(&soon(connection.closed()).await);
        assert_eq!(closed, Some(expected), "{what}");
        assert_eq!(read(&node.stats.closed[expected as usize]), before + 1, "{what}");
        lane.write(&publish("t", 1, n, &["x"])).await;
        lane.acked(number(1, n)).await;
    }
    node.counted(Stats::live, 1).await;
    assert_eq!(node.sessions.live(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_frames_than_the_credit_end_the_connection_and_what_was_taken_stays() {
    let node = Node::start();
    let hold = Hold::on(&node.log);
    let device = node.device("d").await;
    let (mut lane, _) = device.lane(Lane::NORMAL).await;
    // What opened the session is durable; from here on nothing is.
    hold.set(true);
    lane.write(&publish("t", 1, 0, &["x"])).await;
    for n in 1..=64 {
        lane.write(&publish("t", 1, n, &["x"])).await;
    }
    assert_eq!(code(&device.closed().await), Some(Close::TooMuch));
    hold.set(false);
    let device = node.device("d").await;
    let (_, last) = device.lane(Lane::NORMAL).await;
    assert_eq!(last, Some(number(1, 63)));
    assert_eq!(node.payloads("t").len(), 64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_beyond_the_grant_wait_for_room() {
    let node = Node::start();
    let device = node.device("d").await;
    let (mut lane, _) = device.lane(Lane::NORMAL).await;
    for _ in 0..20 {
        // Each takes the place of the one before, which makes room once the client has let go of it too.
        (lane, _) = device.lane(Lane::NORMAL).await;
    }
    let mut idle = Vec::new();
    for _ in 0..devices::native::STREAMS_MAX - 2 {
        idle.push(Stream::open(&device.connection).await);
    }
    let more = tokio::time::timeout(Duration::from_millis(300), device.connection.open_bi());
    assert!(more.await.is_err(), "a seventh stream was granted");
    lane.write(&publish("t", 1, 0, &["x"])).await;
    lane.acked(number(1, 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_says_nothing_is_sent_away() {
    let node = Node::start_with(Config { open_wait_s: 1, ..Config::default() }, Default::default());
    let (addr, pin) = (node.listener.addr(), node.listener.fingerprint());
    let half = hello("d", true);
    // (how many bytes of Hello it sends; none: not even a stream)
    for sent in [None, Some(0), Some(1), Some(half.len() - 1)] {
        let (_endpoint, connection) = super::device::shake_hands(addr, pin, BOUNDS).await.unwrap();
        let mut stream = None;
        if let Some(sent) = sent {
            let open = stream.insert(Stream::open(&connection).await);
            open.write(&half[..sent]).await;
        }
        assert_eq!(code(&soon(connection.closed()).await), Some(Close::NoStream), "{sent:?}");
    }
    assert_eq!(read(&node.stats.refused_no_stream), 4);
}

/// Bytes that look like nothing; the same for the same seed.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_ends_its_own_connection_at_most() {
    let node = Node::start();
    let good = node.device("good").await;
    let (mut lane, _) = good.lane(Lane::NORMAL).await;
    let (addr, pin) = (node.listener.addr(), node.listener.fingerprint());
    for seed in 0..40 {
        println!("seed {seed}");
        let (_endpoint, connection) = super::device::shake_hands(addr, pin, BOUNDS).await.unwrap();
        // On the control stream, behind Hello, on a lane, or among wishes; and as a datagram.
        let begin = [vec![], framed(&Open::Lane(0)), framed(&Open::Lane(2)), framed(&Open::Events)];
        let begin = &begin[seed as usize % begin.len()];
        let mut control = Stream::open(&connection).await;
        let _ = soon(control.send.write_all(&hello("bad", true))).await;
        if let Ok(Ok((mut send, _receive))) = tokio::time::timeout(LONG, connection.open_bi()).await {
            let _ = soon(send.write_all(&[begin.clone(), noise(seed, 5_000)].concat())).await;
            let _ = connection.send_datagram(noise(seed + 1, 500).into());
            let _ = send.finish();
        }
        lane.write(&publish("t", 1, seed, &["x"])).await;
        lane.acked(number(1, seed)).await;
        connection.close(0_u32.into(), b"");
    }
    node.counted(Stats::live, 1).await;
    assert_eq!(node.payloads("t").len(), 40);
}
