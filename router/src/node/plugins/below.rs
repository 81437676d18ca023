//! The wire between links and what sites that feed this one are to have of plugins: neither room knows the other.

use std::sync::{Arc, Weak};

use tokio::sync::watch;

use crate::catalog::LINK_NODES_MAX;
use crate::links::plugins::{DownState, GivePlugins, Outcome, PART_BYTES_MAX, PluginDown, Wanted, WantedComponent};
use crate::links::{Pending, Upstream};
use crate::plugin_host::{ANSWERS_MAX, WantV1, Wants, hex};
use crate::transport::NodeId;

// The answers of all gateways that a link may have are kept, and the note that a plugin is gone: else it would be handed over for ever.
const _: () = assert!(ANSWERS_MAX > LINK_NODES_MAX);

/// What sites are to have, for links; these say which gateways a site has.
pub struct Below(pub Arc<Wants>, pub Weak<Upstream>);

fn wanted((name, want): (String, WantV1)) -> Wanted {
    let WantV1 { number, manifest, sha256, bytes, .. } = want;
    Wanted { name, number, component: (bytes > 0).then_some(WantedComponent { manifest, sha256, bytes }) }
}

impl GivePlugins for Below {
    fn watch(&self) -> watch::Receiver<u64> {
        self.0.watch()
    }

    fn wanted<'a>(&'a self, site: &'a str, gateway: NodeId) -> Pending<'a, Option<Vec<Wanted>>> {
        Box::pin(async move {
            let (wants, site) = (Arc::clone(&self.0), site.to_owned());
            let read = tokio::task::spawn_blocking(move || wants.wanted(&site, gateway.0));
            match read.await {
                Ok(Ok(all)) => Some(all.into_iter().map(wanted).collect()),
                Ok(Err(error)) => {
                    tracing::error!(%error, "it cannot be read what sites are to have of plugins");
                    None
                }
                Err(_) => None,
            }
        })
    }

    fn part(&self, sha256: [u8; 32], offset: u64) -> Pending<'_, Option<Vec<u8>>> {
        Box::pin(async move {
            let wants = Arc::clone(&self.0);
            let read = tokio::task::spawn_blocking(move || wants.part(&sha256, offset, PART_BYTES_MAX as u64));
            match read.await {
                Ok(Ok(part)) => part,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "a component that a site is to have cannot be read");
                    None
                }
                Err(_) => None,
            }
        })
    }

    fn answered<'a>(&'a self, site: &'a str, gateway: NodeId, of: &'a Wanted, outcome: Outcome) -> Pending<'a, bool> {
        Box::pin(async move {
            let refused = match outcome {
                Outcome::Deployed | Outcome::Removed => None,
                Outcome::Refused { code, text } => Some((code, text)),
                Outcome::Later { text } => {
                    tracing::info!(link = site, plugin = of.name, text, "a site does not take a plugin now");
                    return true;
                }
            };
            let gateways = self.1.upgrade().map(|upstream| upstream.gateways_of(site)).unwrap_or_default();
            let gateways: Vec<u64> = gateways.into_iter().map(|gateway| gateway.0).collect();
            let (wants, site, of) = (Arc::clone(&self.0), site.to_owned(), of.clone());
            let kept = tokio::task::spawn_blocking(move || {
                let is = |want: &WantV1| wanted((of.name.clone(), want.clone())) == of;
                wants.answered(&site, (gateway.0, &gateways), &of.name, is, refused)
            });
            match kept.await {
                Ok(Ok(())) => true,
                Ok(Err(error)) => {
                    tracing::error!(%error, "what has come of a site's plugin is not kept; the site is asked again later");
                    false
                }
                Err(_) => false,
            }
        })
    }

    fn of_site(&self, site: &str, names: &[(NodeId, String)]) -> Vec<PluginDown> {
        let view = |(name, want): (String, WantV1)| PluginDown {
            sha256: if want.bytes > 0 { hex(&want.sha256) } else { String::new() },
            state: state(&want),
            said: said(&want, self.0.is_ready(&want), names),
            name,
        };
        let all = self.0.of_site(site).unwrap_or_else(|error| {
            tracing::error!(%error, "it cannot be read what sites are to have of plugins");
            Vec::new()
        });
        all.into_iter().map(view).collect()
    }
}

/// How it stands, of all gateways.
fn state(want: &WantV1) -> DownState {
    match want.answers.as_slice() {
        [] => DownState::Waits,
        answers if answers.iter().all(|answer| answer.code.is_empty()) => DownState::Done,
        _ => DownState::Refused,
    }
}

/// What gateways say, each in words.
fn said(want: &WantV1, is_ready: bool, names: &[(NodeId, String)]) -> Vec<String> {
    if want.answers.is_empty() {
        let what = match want.bytes {
            0 => "not removed yet",
            _ if is_ready => "not deployed yet",
            _ => "not deployed yet: its component is not at this node",
        };
        return vec![what.to_owned()];
    }
    let done = if want.bytes > 0 { "deployed" } else { "removed" };
    let name = |gateway: u64| names.iter().find(|(id, _)| id.0 == gateway).map(|(_, name)| name.clone());
    let answer = |answer: &crate::plugin_host::AnswerV1| {
        let gateway = name(answer.gateway).unwrap_or_else(|| format!("{:016x}", answer.gateway));
        match answer.code.as_str() {
            "" => format!("{gateway}: {done}"),
            code => format!("{gateway}: refused ({code}): {}", answer.text),
        }
    };
    want.answers.iter().map(answer).collect()
}
