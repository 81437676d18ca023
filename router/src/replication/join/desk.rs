//! The side of a site that admits: reads a request, asks whoever decides, answers.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::lobby::Lobby;
use super::message::{self, ANSWER_BYTES_MAX, Answer, JoinRefusal, REQUEST_BYTES_MAX, RefusalCode, Request, Welcome};
use crate::replication::peers::{Close, Speaker, Spoken, agree};
use crate::replication::{PROGRAM, Pending};
use crate::transport::{FrameReceiver, FrameSender, SiteConnection, StreamError};

/// Requests that are decided on at once; who asks beyond that is told to come again.
const JOINS_MAX: usize = 4;
/// How long a node that joins has for its request.
const REQUEST_WAIT: Duration = Duration::from_secs(5);
/// How long the site has to decide.
pub const ADMIT_WAIT: Duration = Duration::from_secs(20);
/// How long the answer may take to be confirmed.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(5);

/// Decides who may join: the site, by consensus.
pub trait Admission: Send + Sync {
    /// Whether a node may join, and what it is given then. The token is marked as used by consensus first. One that
    /// asks again with the same token and the same public key was cut off before it heard the answer: it is given the
    /// same again.
    fn admit<'a>(&'a self, request: &'a Request) -> Pending<'a, Result<Welcome, JoinRefusal>>;
}

/// Where nodes that join are received.
pub struct Desk {
    name: String,
    spoken: Arc<Spoken>,
    admission: Arc<dyn Admission>,
    /// Those who have not said yet what they want.
    lobby: Arc<Lobby>,
    places: Semaphore,
}

impl Desk {
    /// A desk of the node of this name, which speaks this.
    pub fn new(name: impl Into<String>, spoken: Arc<Spoken>, admission: Arc<dyn Admission>) -> Self {
        Self { name: name.into(), spoken, admission, lobby: Arc::default(), places: Semaphore::new(JOINS_MAX) }
    }

    /// Serves one connection to its end.
    pub async fn serve(&self, connection: SiteConnection) {
        let busy = || Close::Busy.close(&connection, "other nodes join right now: try again in a moment");
        let from = connection.address();
        let (waits, yields) = self.lobby.enter(from.ip());
        let heard = tokio::select! {
            heard = timeout(REQUEST_WAIT, receive(&connection)) => heard,
            _ = yields => return busy(),
        };
        drop(waits);
        match heard {
            Ok(Ok((send, Ok(request)))) => {
                let Ok(place) = self.places.try_acquire() else { return busy() };
                let answer = self.answer(&request).await;
                drop(place);
                match &answer {
                    Answer::Welcome(welcome) => {
                        tracing::info!(%from, name = request.name, node = %welcome.node, "a node joins the site");
                    }
                    Answer::Refusal(why) => {
                        tracing::warn!(%from, name = request.name, %why, "a node may not join the site");
                    }
                }
                reply(send, &answer).await;
                Close::Done.close(&connection, "");
            }
            Ok(Ok((send, Err(refusal)))) => {
                tracing::warn!(%from, why = %refusal, "a node may not join the site");
                reply(send, &Answer::Refusal(refusal)).await;
                Close::Done.close(&connection, "");
            }
            Ok(Err(error)) => {
                tracing::debug!(%from, %error, "a node that wanted to join said nothing that can be read");
                Close::Garbage.close(&connection, "the request cannot be read");
            }
            Err(_) => Close::Late.close(&connection, "no request came in time"),
        }
    }

    async fn answer(&self, request: &Request) -> Answer {
        let refused = |code, text| Answer::Refusal(JoinRefusal::new(code, text));
        if let Err(why) = request.check() {
            return refused(RefusalCode::Invalid, why);
        }
        let near = Speaker { name: self.name.clone(), program: PROGRAM.to_owned(), protocols: self.spoken.protocols() };
        let (name, program) = (request.name.clone(), request.program.clone());
        let far = Speaker { name, program, protocols: request.protocols.clone() };
        if let Err(gap) = agree(&near, &far) {
            return refused(RefusalCode::Version, gap.to_string());
        }
        match timeout(ADMIT_WAIT, self.admission.admit(request)).await {
            Ok(Ok(welcome)) => Answer::Welcome(Box::new(welcome)),
            Ok(Err(refusal)) => Answer::Refusal(refusal),
            Err(_) => {
                let text =
                    "the site did not decide in time: are most of its nodes there? Try again with the same token";
                refused(RefusalCode::NoMajority, text.to_owned())
            }
        }
    }
}

/// The stream's way out, and the request or why it cannot be one.
async fn receive(connection: &SiteConnection) -> Result<(FrameSender, Result<Request, JoinRefusal>), StreamError> {
    let (send, mut receive): (FrameSender, FrameReceiver) = connection.accept().await?;
    let bytes = receive.receive_frame(REQUEST_BYTES_MAX).await?.ok_or(StreamError::Cut)?;
    let request = message::decode(&bytes).map_err(|error| match error {
        message::MessageError::Version(_) => {
            JoinRefusal::new(RefusalCode::Version, format!("{error}: upgrade the node that admits (edgeway {PROGRAM})"))
        }
        message::MessageError::Garbage => JoinRefusal::new(RefusalCode::Invalid, error.to_string()),
    });
    Ok((send, request))
}

async fn reply(mut send: FrameSender, answer: &Answer) {
    let mut bytes = message::encode(answer);
    if bytes.len() > ANSWER_BYTES_MAX {
        let text = format!("the site has more topics than a node can be told ({} bytes)", bytes.len());
        bytes = message::encode(&Answer::Refusal(JoinRefusal::new(RefusalCode::Full, text)));
    }
    let last_words = async {
        if send.send_frame(&bytes).await.is_ok() {
            send.finish();
            send.stopped().await;
        }
    };
    let _ = timeout(LAST_WORDS_WAIT, last_words).await;
}
