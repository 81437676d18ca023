//! The edge accepts an invitation: makes a key, asks upstream, and keeps what it is given.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::folder::{FACTS_FILE, Facts, folder};
use super::invite::{self, ANSWER_BYTES_MAX, Answer, Refusal, Request, Welcome};
use crate::security::LinkToken;
use crate::transport::{Fingerprint, LinkIdentity, NodeKey, Question, SiteError, Way, dial_link_join, resolve};

/// How long the answer may take.
const ANSWER_WAIT: Duration = Duration::from_secs(15);

/// Why an invitation was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The other site said no.
    #[error("the other site refuses: {0}")]
    Refused(#[from] Refusal),
    /// No node of it answered.
    #[error("no node of the other site can be reached:\n  {}\nis UDP or TCP let through to that port, and does the node listen ([site] listen)?",
        .0.join("\n  "))]
    Unreached(Vec<String>),
    /// The link's end cannot be kept, or is there already.
    #[error(transparent)]
    Folder(#[from] SiteError),
    /// What was kept of an earlier link of that name is there still.
    #[error("what was kept of an earlier link of that name cannot be forgotten, and the token was not used: {0}")]
    Kept(String),
    /// The other site is this one.
    #[error("the token is of this site itself: a link goes to another one")]
    OwnSite,
}

/// This node, as it is said upstream.
#[derive(Debug, Clone, Copy)]
pub struct Applicant<'a> {
    /// What people call it.
    pub name: &'a str,
    /// Its site.
    pub site: u64,
}

/// Accepts an invitation, and keeps the link's end as `name` in the data folder. One that was cut off comes back with the same
/// key, and is given the same again.
///
/// # Errors
/// When the other site refuses or is not reached, or the link's end cannot be kept.
pub async fn accept(token: &LinkToken, data: &Path, name: &str, own: Applicant<'_>) -> Result<Welcome, AcceptError> {
    if token.0.site == own.site {
        return Err(AcceptError::OwnSite);
    }
    let folder = folder(data, name);
    let key = NodeKey::waiting(&folder)?;
    let request = Request {
        secret: token.0.secret,
        name: own.name.to_owned(),
        site: own.site,
        public_key: key.public().to_vec(),
        program: super::PROGRAM.to_owned(),
        protocol: super::PROTOCOL,
    };
    let welcome = ask_all(token, &invite::encode(&request)).await?;
    let facts = Facts { name: welcome.name.clone(), addresses: token.0.addresses.clone() };
    let facts = serde_json::to_vec_pretty(&facts).unwrap_or_default();
    LinkIdentity::install(&folder, (&welcome.certificate, &welcome.ca), &key, &[(FACTS_FILE, &facts)])?;
    Ok(welcome)
}

async fn ask_all(token: &LinkToken, request: &[u8]) -> Result<Welcome, AcceptError> {
    let mut tried = Vec::new();
    for way in [Way::Quic, Way::Tcp] {
        if let Some(welcome) = ask_by(way, token, request, &mut tried).await? {
            return Ok(welcome);
        }
    }
    Err(AcceptError::Unreached(tried))
}

/// Asks all addresses by one way; `None` where none of them lets it in or refuses for good.
async fn ask_by(
    way: Way,
    token: &LinkToken,
    request: &[u8],
    tried: &mut Vec<String>,
) -> Result<Option<Welcome>, AcceptError> {
    for address in &token.0.addresses {
        let resolved = resolve(address).await.unwrap_or_else(|why| {
            tried.push(why);
            Vec::new()
        });
        for at in resolved {
            match ask(token, request, at, way).await {
                Ok(Answer::Welcome(welcome)) => return Ok(Some(welcome)),
                // Another node of the site may know the token already, or reach the majority.
                Ok(Answer::Refusal(refusal)) if ["token-unknown", "unavailable", "busy"].contains(&&*refusal.code) => {
                    tried.push(format!("{address}: {refusal}"));
                }
                Ok(Answer::Refusal(refusal)) => return Err(refusal.into()),
                Err(why) => tried.push(format!("{address} ({at}, by {}): {why}", way.as_str())),
            }
        }
    }
    Ok(None)
}

/// One attempt; what went wrong otherwise, for people.
async fn ask(token: &LinkToken, request: &[u8], at: SocketAddr, way: Way) -> Result<Answer, String> {
    let question = Question { bytes: request, answer_bytes_max: ANSWER_BYTES_MAX, answer_wait: ANSWER_WAIT };
    let ca = Fingerprint::from_bytes(token.0.ca);
    let bytes = question.ask(|bounds| dial_link_join(at, token.0.site, ca, bounds, way)).await?;
    invite::decode(&bytes).ok_or_else(|| "it answered in an unknown way".to_owned())
}
