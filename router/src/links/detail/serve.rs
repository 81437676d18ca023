//! The edge's side: answers what upstream asks on streams of its own, in its turn, and no faster than it is taken.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::class::Priority;
use super::super::pack::{self, Packer};
use super::super::receiver::body_wait;
use super::super::sender::Session;
use super::range::{Range, Refusal, find};
use super::window::Window;
use super::wire::{Ask, End, Told, read_taken};
use crate::transport::{FrameReceiver, FrameSender, SiteConnection, StreamError};

/// Requests at once on one connection.
pub const REQUESTS_MAX: u32 = 4;
/// Bytes of a request.
const ASK_BYTES_MAX: usize = 64 << 10;
/// Bytes of what is said of it later.
const TAKEN_BYTES_MAX: usize = 16;
/// How long a request may take to come.
const ASK_WAIT: Duration = Duration::from_secs(20);
/// How long what was sent may not be taken: then the place is for others.
const SLOW_MAX: Duration = Duration::from_secs(300);
/// How long the last words may take to be brought over.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(60);
/// What detail is, at the gate: beside what is `low`, after all else.
const PRIORITY: Priority = Priority::Low;

/// Why an answer ended early.
enum Broken {
    /// The one who asked is gone, or the connection.
    Gone,
    /// It is said why.
    Said(Refusal),
}

impl From<StreamError> for Broken {
    fn from(_: StreamError) -> Self {
        Self::Gone
    }
}

/// Answers what is asked on a connection. Never ends by itself.
pub async fn serve(session: &Arc<Session>, connection: &SiteConnection) {
    let mut requests = JoinSet::new();
    loop {
        let has_room = requests.len() < REQUESTS_MAX as usize;
        tokio::select! {
            stream = connection.accept(), if has_room => match stream {
                Ok((out, from)) => drop(requests.spawn(answer(Arc::clone(session), out, from))),
                // Those who send learn why.
                Err(_) => return std::future::pending().await,
            },
            Some(_) = requests.join_next(), if !requests.is_empty() => {}
        }
    }
}

async fn answer(session: Arc<Session>, mut out: FrameSender, mut from: FrameReceiver) {
    let ask = match timeout(ASK_WAIT, from.receive_frame(ASK_BYTES_MAX)).await {
        Ok(Ok(Some(frame))) => Ask::decode(&frame),
        _ => return,
    };
    let told = match ask {
        Ok(ask) => {
            tracing::info!(link = session.name, topic = ask.topic, "upstream asks for a range");
            tell(&session, &ask, &mut out, &mut from).await
        }
        Err(error) => Err(Broken::Said((End::Wrong, error.to_string()))),
    };
    let (end, text) = match told {
        Ok(()) => (End::Done, String::new()),
        Err(Broken::Said(refusal)) => refusal,
        Err(Broken::Gone) => return,
    };
    if say(&session, &mut out, &Told::Ends(end, text)).await.is_ok() {
        out.finish();
        let _ = timeout(LAST_WORDS_WAIT, out.stopped()).await;
    }
}

async fn say(session: &Session, out: &mut FrameSender, told: &Told) -> Result<(), StreamError> {
    session.gate.send(PRIORITY, out, &told.encode()).await
}

/// Tells the range, to its end.
async fn tell(
    session: &Arc<Session>,
    ask: &Ask,
    out: &mut FrameSender,
    from: &mut FrameReceiver,
) -> Result<(), Broken> {
    let (range, spans) = {
        let (session, ask) = (Arc::clone(session), ask.clone());
        reading(move || find(&session.log, &session.config, &ask)).await?
    };
    say(session, out, &Told::Begins(spans)).await?;
    let clock = session.log.clock();
    let mut window = Window::new(session.config.rate());
    // Another gateway may be asked as well: what comes next is wanted of one.
    hear(&mut window, from, clock.monotonic()).await?;
    let packs = session.config.compresses() && ask.dictionary >= pack::DICTIONARY;
    let packer = if packs { Packer::new(session.config.rate()) } else { None };
    let mut source = Source { range, packer };
    loop {
        let frame;
        (source, frame) = source.next_frame(session, window.next_number(), window.round_bytes()).await?;
        let Some(frame) = frame else { return Ok(()) };
        while !window.has_room(frame.len()) {
            hear(&mut window, from, clock.monotonic()).await?;
        }
        session.gate.begin(PRIORITY, frame.len()).await;
        window.send(frame.len(), clock.monotonic());
        let sent = timeout(send_wait(frame.len()), session.gate.send(PRIORITY, out, &frame)).await;
        // That is its turn: one who takes it slowly is to keep nobody else from theirs.
        session.gate.stored(PRIORITY, frame.len());
        // What is sent in part is no frame: the stream ends.
        sent.map_err(|_| Broken::Gone)??;
    }
}

/// How long a frame may take to be sent: one that is not read keeps no window that others need.
fn send_wait(bytes: usize) -> Duration {
    SLOW_MAX + body_wait(bytes)
}

/// Hears up to where it was handed on.
async fn hear(window: &mut Window, from: &mut FrameReceiver, now: Duration) -> Result<(), Broken> {
    let Ok(heard) = timeout(SLOW_MAX, from.receive_frame(TAKEN_BYTES_MAX)).await else {
        let text = format!("what the site sent was not taken for {} s", SLOW_MAX.as_secs());
        return Err(Broken::Said((End::Slow, text)));
    };
    let number = heard?.as_deref().map(read_taken).ok_or(Broken::Gone)?;
    match number {
        Ok(number) if window.taken(number, now) => Ok(()),
        _ => Err(Broken::Said((End::Wrong, "more was taken than was sent".to_owned()))),
    }
}

/// What frames are made of.
struct Source {
    range: Range,
    packer: Option<Packer>,
}

impl Source {
    async fn next_frame(
        mut self,
        session: &Arc<Session>,
        number: u64,
        bytes_max: usize,
    ) -> Result<(Self, Option<Vec<u8>>), Broken> {
        let log = Arc::clone(&session.log);
        reading(move || {
            let failed = |error: &dyn std::fmt::Display| (End::Failed, format!("the site cannot read on: {error}"));
            let store = log.store();
            let round = self.range.next_round(store, number, bytes_max).map_err(|error| failed(&error))?;
            let Some(round) = round else { return Ok((self, None)) };
            if round.must_sync {
                // Nothing that a power cut could take back here is sent.
                store.sync().map_err(|error| failed(&error))?;
            }
            store.let_go_if_due().map_err(|error| failed(&error))?;
            let plain = round.parts.encode();
            let packed = self.packer.as_mut().and_then(|packer| packer.pack(&round.parts, &plain));
            Ok((self, Some(packed.unwrap_or(plain))))
        })
        .await
    }
}

/// Runs what reads the store on a thread that may block.
async fn reading<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refusal> + Send + 'static) -> Result<T, Broken> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err((End::Failed, "the gateway is stopping".to_owned()))).map_err(Broken::Said)
}
