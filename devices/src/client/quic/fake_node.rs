//! A node for tests: it speaks `edgeway/1` over quinn, keeps what comes in memory, and does what it is told to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, RecvStream, SendStream, ServerConfig, TransportConfig};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::frames::Frames;
use crate::native::{
    ALPN, Close, Datagram, FromDevice, Hello, LaneReply, LaneState, Limits, Open, Publish, Refusal, Refused, Reset,
    ToDevice, decode, encode,
};
use crate::sequence::{LANES, Lane, Number};
use crate::trust::Fingerprint;

pub(super) const LIMITS: Limits =
    Limits { frame_bytes_max: 256 << 10, events_per_frame_max: 4_096, frames_in_flight_max: 64 };

/// What came, and what is to be done.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) lanes: [Vec<(Number, String)>; LANES as usize],
    pub(super) last: [Option<Number>; LANES as usize],
    pub(super) frames: usize,
    pub(super) connections: Vec<Connection>,
    pub(super) loose: Vec<String>,
    /// Deliveries that were confirmed.
    pub(super) received: Vec<u64>,
    pub(super) goodbyes: usize,
    /// Streams of these lanes are reset after so many more frames, which are not stored.
    pub(super) reset: Vec<(Lane, usize)>,
    /// Events with this payload are refused.
    pub(super) refuse: Option<&'static str>,
    /// Every boot is an earlier one.
    pub(super) is_stale: bool,
    /// Commands for each connection.
    pub(super) commands: Vec<([u8; 16], &'static str)>,
    /// Bytes of payloads that came, and whether they are counted alone.
    pub(super) bytes: usize,
    pub(super) counts_only: bool,
}

pub(super) struct FakeNode {
    pub(super) address: SocketAddr,
    pub(super) certificate: CertificateDer<'static>,
    memory: Arc<Mutex<Memory>>,
    endpoint: Endpoint,
}

/// A self-signed certificate and its key.
pub(in crate::client) fn identity() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    (made.cert.der().clone(), PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into()))
}

impl FakeNode {
    pub(super) fn start() -> Self {
        let (certificate, key) = identity();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        let mut transport = TransportConfig::default();
        transport.stream_receive_window((8_u32 << 20).into()).receive_window((32_u32 << 20).into());
        config.transport_config(Arc::new(transport));
        let endpoint = Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = endpoint.local_addr().unwrap();
        let memory = Arc::<Mutex<Memory>>::default();
        tokio::spawn(accept(endpoint.clone(), Arc::clone(&memory)));
        Self { address, certificate, memory, endpoint }
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap()
    }

    /// Waits until something holds.
    pub(super) async fn until(&self, what: &str, mut holds: impl FnMut(&Memory) -> bool) {
        let end = tokio::time::Instant::now() + Duration::from_secs(20);
        while !holds(&self.memory()) {
            assert!(tokio::time::Instant::now() < end, "not within the time: {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Closes all connections.
    pub(super) fn cut(&self, code: Close) {
        self.memory().connections.drain(..).for_each(|connection| connection.close((code as u32).into(), b"cut"));
    }

    /// What a lane brought.
    pub(super) fn payloads(&self, lane: Lane) -> Vec<String> {
        self.memory().lanes[lane.index()].iter().map(|(_, payload)| payload.clone()).collect()
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.endpoint.close(0_u32.into(), b"");
    }
}

async fn accept(endpoint: Endpoint, memory: Arc<Mutex<Memory>>) {
    while let Some(incoming) = endpoint.accept().await {
        let memory = Arc::clone(&memory);
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            memory.lock().unwrap().connections.push(connection.clone());
            tokio::spawn(datagrams(connection.clone(), Arc::clone(&memory)));
            while let Ok((send, receive)) = connection.accept_bi().await {
                tokio::spawn(stream(send, Frames::new(receive), Arc::clone(&memory)));
            }
        });
    }
}

async fn datagrams(connection: Connection, memory: Arc<Mutex<Memory>>) {
    while let Ok(bytes) = connection.read_datagram().await {
        let datagram: Datagram<'_> = decode(&bytes).unwrap();
        memory.lock().unwrap().loose.push(String::from_utf8(datagram.payload.to_vec()).unwrap());
    }
}

async fn stream(send: SendStream, mut frames: Frames, memory: Arc<Mutex<Memory>>) {
    let Ok(frame) = frames.next().await else { return };
    match decode::<Open<'_>>(frame).unwrap() {
        Open::Hello(Hello { device, commands, .. }) => {
            let device = device.to_owned();
            control(send, frames, &memory, &device, commands).await;
        }
        Open::Lane(lane) => lane_stream(send, frames, &memory, Lane::new(lane).unwrap()).await,
        Open::Events => panic!("the client has no such stream"),
    }
}

async fn say(send: &mut SendStream, frame: &impl serde::Serialize) -> bool {
    let mut bytes = Vec::new();
    encode(frame, &mut bytes).unwrap();
    send.write_all(&bytes).await.is_ok()
}

async fn control(mut send: SendStream, mut frames: Frames, memory: &Mutex<Memory>, device: &str, takes: bool) {
    let (lanes, commands) = {
        let memory = memory.lock().unwrap();
        let known = |lane: &Lane| memory.last[lane.index()].map(|last| LaneState { lane: lane.number(), last });
        (Lane::ALL.iter().filter_map(known).collect(), memory.commands.clone())
    };
    say(&mut send, &ToDevice::Welcome { node: "fake", origin: 1, now_ms: 1, limits: LIMITS, lanes }).await;
    for (delivery, (id, name)) in (1..).zip(commands.into_iter().filter(|_| takes)) {
        let command = ToDevice::Command {
            delivery,
            device,
            id,
            name,
            expires_in_ms: None,
            properties: Vec::new(),
            payload: b"{}",
        };
        say(&mut send, &command).await;
    }
    while let Ok(frame) = frames.next().await {
        match decode(frame).unwrap() {
            FromDevice::Received { delivery } => memory.lock().unwrap().received.push(delivery),
            FromDevice::Goodbye => memory.lock().unwrap().goodbyes += 1,
        }
    }
}

async fn lane_stream(mut send: SendStream, mut frames: Frames, memory: &Mutex<Memory>, lane: Lane) {
    let last = memory.lock().unwrap().last[lane.index()];
    say(&mut send, &LaneReply::Opened { last }).await;
    loop {
        let Ok(frame) = frames.next().await else { return };
        let publish: Publish<'_> = decode(frame).unwrap();
        if is_reset(memory, lane) {
            let _ = send.reset((Reset::TryAgain as u32).into());
            return stop(frames);
        }
        let (up_to, refused) = store(&mut memory.lock().unwrap(), lane, &publish);
        for refused in refused {
            say(&mut send, &LaneReply::Refused(refused)).await;
        }
        if !say(&mut send, &LaneReply::Acked { up_to }).await {
            return;
        }
    }
}

fn stop(frames: Frames) {
    let _: RecvStream = frames.into_stream();
}

fn is_reset(memory: &Mutex<Memory>, lane: Lane) -> bool {
    let mut memory = memory.lock().unwrap();
    let Some(at) = memory.reset.iter().position(|(reset, _)| *reset == lane) else { return false };
    if memory.reset[at].1 == 0 {
        memory.reset.remove(at);
        return true;
    }
    memory.reset[at].1 -= 1;
    false
}

/// Stores what is new, as the node does: numbers that are not above the last are known.
fn store(memory: &mut Memory, lane: Lane, publish: &Publish<'_>) -> (Number, Vec<Refused>) {
    memory.frames += 1;
    let (mut up_to, mut refusals) = (Number { boot: 0, seq: 0 }, Vec::new());
    for (number, event) in publish.numbered() {
        up_to = number;
        if memory.is_stale {
            let (boot, seq) = (number.boot, number.seq);
            refusals.push(Refused { boot, first: seq, last: seq, why: Refusal::StaleBoot });
            continue;
        }
        if memory.last[lane.index()].is_some_and(|last| number <= last) {
            continue;
        }
        memory.last[lane.index()] = Some(number);
        memory.bytes += event.payload.len();
        if memory.counts_only {
            continue;
        }
        let payload = String::from_utf8(event.payload.to_vec()).unwrap();
        if memory.refuse.is_some_and(|refused| refused == payload) {
            let (boot, seq) = (number.boot, number.seq);
            refusals.push(Refused { boot, first: seq, last: seq, why: Refusal::NoRule });
        } else {
            memory.lanes[lane.index()].push((number, payload));
        }
    }
    (up_to, refusals)
}
