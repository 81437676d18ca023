//! The side that joins: connects to the site of its token, asks, and checks what it is given.

use std::net::SocketAddr;
use std::time::Duration;

use super::desk::ADMIT_WAIT;
use super::message::{self, ANSWER_BYTES_MAX, Answer, JoinRefusal, RefusalCode, Request, Welcome};
use crate::replication::PROGRAM;
use crate::replication::peers::Spoken;
use crate::security::JoinToken;
use crate::transport::{Fingerprint, NodeKey, Question, dial_join, resolve};

/// How long the answer may take: longer than the site may take to decide.
const ANSWER_WAIT: Duration = Duration::from_secs(ADMIT_WAIT.as_secs() + 5);

/// The node that joins.
#[derive(Debug, Clone, Copy)]
pub struct Applicant<'a> {
    /// What people call it.
    pub name: &'a str,
    /// `HOST:PORT` by which the others reach it.
    pub address: &'a str,
    /// Its key.
    pub key: &'a NodeKey,
}

/// Why a node did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The site said no.
    #[error("the site refuses: {0}")]
    Refused(#[from] JoinRefusal),
    /// No node of the site answered.
    #[error("no node of the site can be reached:\n  {}\nis UDP let through, and does the node listen ([site] listen)?",
        .0.join("\n  "))]
    Unreached(Vec<String>),
    /// What was given is not what the token promised.
    #[error("what {from} gave cannot be used: {what}")]
    Welcome {
        /// Where it came from.
        from: SocketAddr,
        /// What is wrong.
        what: String,
    },
}

/// Asks the site of a token, at each of its addresses in turn, until one decides. Asked again with the same token and
/// key, the site gives the same again.
///
/// # Errors
/// When the site refuses, cannot be reached, or gives what cannot be used.
pub async fn join(token: &JoinToken, applicant: Applicant<'_>) -> Result<Welcome, JoinError> {
    let mut tried = Vec::new();
    let mut undecided = None;
    for address in &token.addresses {
        let resolved = resolve(address).await.unwrap_or_else(|why| {
            tried.push(why);
            Vec::new()
        });
        for at in resolved {
            match ask(token, applicant, at).await {
                // Another node may reach the majority that this one lacks.
                Ok(Answer::Refusal(refusal)) if refusal.code == RefusalCode::NoMajority => undecided = Some(refusal),
                Ok(Answer::Refusal(refusal)) => return Err(refusal.into()),
                Ok(Answer::Welcome(welcome)) => return check(token, &welcome, at).map(|()| *welcome),
                Err(why) => tried.push(format!("{address} ({at}): {why}")),
            }
        }
    }
    Err(undecided.map_or(JoinError::Unreached(tried), JoinError::Refused))
}

/// One attempt; what went wrong otherwise, for people.
async fn ask(token: &JoinToken, applicant: Applicant<'_>, at: SocketAddr) -> Result<Answer, String> {
    let request = Request {
        secret: token.secret,
        name: applicant.name.to_owned(),
        address: applicant.address.to_owned(),
        public_key: applicant.key.public().to_vec(),
        program: PROGRAM.to_owned(),
        protocols: Spoken::default().protocols(),
    };
    let bytes = message::encode(&request);
    let question = Question { bytes: &bytes, answer_bytes_max: ANSWER_BYTES_MAX, answer_wait: ANSWER_WAIT };
    let ca = Fingerprint::from_bytes(token.ca);
    let bytes = question.ask(|bounds| dial_join(at, token.site, ca, bounds)).await?;
    message::decode(&bytes).map_err(|error| format!("it answered with {error}"))
}

/// The site's CA is the one that the token names, and the site too.
fn check(token: &JoinToken, welcome: &Welcome, from: SocketAddr) -> Result<(), JoinError> {
    let wrong = |what: &str| JoinError::Welcome { from, what: what.to_owned() };
    if welcome.site != token.site {
        return Err(wrong("it is of another site than the token"));
    }
    match welcome.admitted().ca_fingerprint() {
        Some(ca) if ca.to_bytes() == token.ca => Ok(()),
        _ => Err(wrong("its CA is not the one that the token names")),
    }
}
