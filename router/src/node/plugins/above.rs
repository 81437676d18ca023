//! Plugins that upstream sites bring: deployed as any other, by the site's catalog, in the link's name and within what the link may.
//!
//! Whose a plugin is stands in the first line of its manifest, as the catalog has it: people's own deployments and changes of grants write the
//! manifest without it, so what they have touched is theirs.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::catalog::{AgreedPlugin, Catalog, Change, NewPlugin, PluginRefusal, Refusal};
use crate::event_log::is_internal;
use crate::links::plugins::{DownState, Outcome, PluginDown, TakePlugins, Wanted, WantedComponent};
use crate::links::{ByLink, COMMANDS, Pending, URGENT};
use crate::plugin_host::{Kind, Manifest, PluginHost, RecordV2, SettleError, TwinGrant, hex};

/// Plugins that one link may have deployed.
const PLUGINS_OF_LINK_MAX: usize = 16;
/// What the first line of a manifest begins with, before the link's id.
const MARK: &str = "# link ";

/// What links bring, for the rooms that run plugins.
#[derive(Clone)]
pub struct Above {
    host: Arc<PluginHost>,
    catalog: Arc<Catalog>,
    /// One is judged and made at a time, of all links.
    making: Arc<Mutex<()>>,
}

/// The line that says whose a plugin is.
fn mark(link: u64) -> String {
    format!("{MARK}{link:016x}\n")
}

/// A manifest without it.
fn unmarked(manifest: &str) -> &str {
    match manifest.strip_prefix(MARK).and_then(|rest| rest.split_once('\n')) {
        Some((_, rest)) => rest,
        None => manifest,
    }
}

/// Whether a link may bring what a manifest asks for: a plugin does no more than the link itself may (pure).
fn judge_grants(by: &ByLink, manifest: &Manifest) -> Option<Outcome> {
    let grants = &manifest.grants;
    let refused = |text: &str| Some(Outcome::refused("grants", text));
    if manifest.kind == Kind::CommandGuard {
        return Some(Outcome::refused("guard", "a command guard is deployed at the site whose commands it judges"));
    }
    if !grants.internal.is_empty() || manifest.topics.iter().any(|topic| is_internal(topic)) {
        return refused("it would read internal topics, which is granted at the site alone");
    }
    let steers = !grants.commands.is_empty() || grants.twins == TwinGrant::Set;
    if steers && !by.may_bring(COMMANDS) {
        return refused("it would send commands, or set twins: the link's `down` does not list \"commands\"");
    }
    if grants.urgent && !by.may_bring(URGENT) {
        return refused("it would send urgent commands: the link's `down` does not list \"urgent\"");
    }
    None
}

/// Whether a plugin that is here may be replaced or removed by a link (pure).
fn is_of(link: u64, agreed: &AgreedPlugin) -> bool {
    agreed.manifest.starts_with(&mark(link))
}

impl Above {
    /// Deploys by this catalog, what runs on this host.
    pub fn new(host: Arc<PluginHost>, catalog: Arc<Catalog>) -> Self {
        Self { host, catalog, making: Arc::default() }
    }

    fn local(name: &str) -> Outcome {
        Outcome::refused("local", format!("a plugin {name} is the site's own, or was changed there"))
    }

    /// What is to be said of a component before it is fetched. What was agreed on already is made to run here first.
    async fn judge_and_run(&self, by: &ByLink, name: &str, component: &WantedComponent) -> Option<Outcome> {
        match self.judge_component(by, name, component) {
            Some(Outcome::Deployed) => {
                let outcome = self.run(name).await;
                if outcome == Outcome::Deployed {
                    self.release(component.sha256).await;
                }
                Some(outcome)
            }
            judged => judged,
        }
    }

    /// The same, where it is not looked whether that runs.
    fn judge_component(&self, by: &ByLink, name: &str, component: &WantedComponent) -> Option<Outcome> {
        let manifest = match Manifest::parse(&component.manifest) {
            Ok(manifest) => manifest,
            Err(error) => return Some(Outcome::refused("manifest", error)),
        };
        if manifest.name != name {
            return Some(Outcome::refused("manifest", "its manifest names another plugin"));
        }
        if let Some(refused) = judge_grants(by, &manifest) {
            return Some(refused);
        }
        match self.catalog.plugin(name) {
            Some(agreed) => {
                let text = toml::to_string(&manifest).unwrap_or_default();
                if agreed.sha256 == component.sha256 && unmarked(&agreed.manifest) == text {
                    // It was agreed on: a crash came before the answer, or another gateway was first.
                    return Some(Outcome::Deployed);
                }
                (!is_of(by.link, &agreed)).then(|| Self::local(name))
            }
            None if self.host.here(name).is_some_and(|here| here.record.begun == 0) => Some(Self::local(name)),
            None if self.of(by.link).count() >= PLUGINS_OF_LINK_MAX => {
                let text = format!("the link has {PLUGINS_OF_LINK_MAX} plugins here, as many as one may");
                Some(Outcome::refused("too-many", text))
            }
            None => None,
        }
    }

    fn of(&self, link: u64) -> impl Iterator<Item = (String, Arc<AgreedPlugin>)> {
        let all = self.catalog.plugins().into_iter();
        all.filter(move |(_, agreed)| is_of(link, agreed)).map(|(name, agreed)| (name.to_string(), agreed))
    }

    async fn remove(&self, by: &ByLink, name: &str) -> Outcome {
        if self.catalog.plugin(name).is_some_and(|agreed| !is_of(by.link, &agreed)) {
            return Self::local(name);
        }
        // Where none is known here the site is asked all the same: another gateway may have deployed it, and this node not know yet.
        match self.catalog.propose(Change::RemovePlugin { name: name.to_owned() }, &who(by)).await {
            Ok(_) => {}
            Err(Refusal::Plugin(PluginRefusal::Unknown(_))) => return Outcome::Removed,
            Err(error) => return said(&error),
        }
        match self.settle(name).await {
            Ok(()) => Outcome::Removed,
            Err(error) => Outcome::later(text_of(error.as_ref())),
        }
    }

    /// Compiles, and has the site agree. Once begun it is to go on to its end: it keeps a component until then.
    pub(super) async fn make(&self, by: &ByLink, component: &WantedComponent, wasm: Vec<u8>) -> Outcome {
        let (host, manifest, by_whom) = (Arc::clone(&self.host), component.manifest.clone(), who(by));
        let checked = tokio::task::spawn_blocking(move || {
            let manifest = Manifest::parse(&manifest).map_err(|error| Outcome::refused("manifest", error))?;
            let record = host.check(&wasm, &manifest).map_err(|error| {
                host.audit_refused(&by_whom, &wasm, Some(&manifest), "plugin_refused");
                match error.is_refusal() {
                    true => Outcome::refused("plugin_refused", &error),
                    false => Outcome::later(&error),
                }
            })?;
            Ok((manifest.name, record, wasm.len() as u64))
        });
        let (name, record, bytes) = match checked.await {
            Ok(Ok(checked)) => checked,
            Ok(Err(outcome)) => return outcome,
            Err(_) => return Outcome::later("the gateway is stopping"),
        };
        let (manifest, sha256) = (format!("{}{}", mark(by.link), record.manifest), record.sha256);
        // It took a while to compile: people may have deployed one meanwhile.
        if let Some(outcome) = self.judge_and_run(by, &name, component).await {
            if !matches!(outcome, Outcome::Later { .. }) {
                self.release(sha256).await;
            }
            return outcome;
        }
        let new = NewPlugin { is_guard: false, name: name.clone(), manifest, sha256, bytes };
        let applied = self.catalog.propose(Change::DeployPlugin(new), &who(by)).await;
        let outcome = match &applied {
            Ok(_) => self.run(&name).await,
            Err(error) => said(error),
        };
        // What may be agreed on yet is kept for that, and what was agreed on and may run yet.
        let is_to_run = applied.is_ok() && matches!(outcome, Outcome::Later { .. });
        if !is_to_run && applied.err() != Some(Refusal::UnknownOutcome) {
            self.release(sha256).await;
        }
        outcome
    }

    async fn release(&self, sha256: [u8; 32]) {
        let host = Arc::clone(&self.host);
        let _ = tokio::task::spawn_blocking(move || host.release(&sha256)).await;
    }

    /// Runs what was agreed on.
    async fn run(&self, name: &str) -> Outcome {
        self.settle(name).await.map_or_else(|error| does_not_run(error.as_ref()), |()| Outcome::Deployed)
    }

    /// Makes a plugin of this node what was agreed on; why it is not, `None`: the node is stopping.
    async fn settle(&self, name: &str) -> Result<(), Option<SettleError>> {
        let (host, catalog, name) = (Arc::clone(&self.host), Arc::clone(&self.catalog), name.to_owned());
        let settled = tokio::task::spawn_blocking(move || {
            host.settle(&name, || catalog.plugin(&name).map(|agreed| RecordV2::from(&*agreed)))
        });
        settled.await.map_err(|_| None)?.map(drop).map_err(Some)
    }
}

fn text_of(error: Option<&SettleError>) -> String {
    error.map_or_else(|| "the gateway is stopping".to_owned(), ToString::to_string)
}

/// What is to be said of what the site agreed on and does not run here. It may run a moment later, unless it is the plugin's own fault.
fn does_not_run(error: Option<&SettleError>) -> Outcome {
    match error {
        Some(SettleError::Deploy(refused)) if refused.is_refusal() => Outcome::refused("does-not-run", refused),
        error => Outcome::later(text_of(error)),
    }
}

/// What the audit says of who it was.
fn who(by: &ByLink) -> String {
    format!("link:{}", by.name)
}

/// What the site says of a change.
fn said(refusal: &Refusal) -> Outcome {
    match refusal {
        Refusal::Plugin(_) => Outcome::refused(refusal.code(), refusal),
        // No majority, a full disk: that passes.
        refusal => Outcome::later(refusal),
    }
}

impl TakePlugins for Above {
    fn judge<'a>(&'a self, by: &'a ByLink, wanted: &'a Wanted) -> Pending<'a, Option<Outcome>> {
        Box::pin(async move {
            // What is under way yet, by a stream that was cut, would come after what is said now.
            let turn = Arc::clone(&self.making).lock_owned().await;
            let (above, by, wanted) = (self.clone(), by.clone(), wanted.clone());
            let judged = tokio::spawn(async move {
                let _turn = turn;
                match &wanted.component {
                    None => Some(above.remove(&by, &wanted.name).await),
                    Some(component) => above.judge_and_run(&by, &wanted.name, component).await,
                }
            });
            judged.await.unwrap_or_else(|_| Some(Outcome::later("the gateway is stopping")))
        })
    }

    fn deploy<'a>(&'a self, by: &'a ByLink, wanted: &'a Wanted, wasm: Vec<u8>) -> Pending<'a, Outcome> {
        Box::pin(async move {
            let Some(component) = wanted.component.clone() else { return Outcome::later("nothing is wanted") };
            let turn = Arc::clone(&self.making).lock_owned().await;
            // It goes on though the link is cut: else each cut would leave a thread that compiles, and begin another one.
            let (above, by, name) = (self.clone(), by.clone(), wanted.name.clone());
            let made = tokio::spawn(async move {
                let _turn = turn;
                // It took a while to come: people may have deployed one meanwhile.
                match above.judge_and_run(&by, &name, &component).await {
                    Some(outcome) => outcome,
                    None => above.make(&by, &component, wasm).await,
                }
            });
            made.await.unwrap_or_else(|_| Outcome::later("the gateway is stopping"))
        })
    }

    fn of_link(&self, link: u64) -> Vec<PluginDown> {
        let view = |(name, agreed): (String, Arc<AgreedPlugin>)| PluginDown {
            name,
            sha256: hex(&agreed.sha256),
            state: DownState::Done,
            said: vec![format!("version {}", agreed.version)],
        };
        self.of(link).map(view).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin_host::DeployError;

    #[test]
    fn a_plugin_does_no_more_than_its_link_may() {
        let by = |down: &[&str]| ByLink {
            name: "hq".into(),
            link: 7,
            down: down.iter().map(|word| (*word).into()).collect(),
        };
        let (bare, commands, urgent) =
            (by(&["plugins"]), by(&["plugins", "commands"]), by(&["plugins", "commands", "urgent"]));
        // what it asks for, by which link, the refusal
        let cases = [
            ("emit = ['out']\nstate = true\nheaders = true\ntwins = 'read'", &bare, None),
            ("commands = ['cool']", &bare, Some("grants")),
            ("twins = 'set'", &bare, Some("grants")),
            ("commands = ['cool']\ntwins = 'set'", &commands, None),
            ("commands = ['cool']\nurgent = true", &commands, Some("grants")),
            ("commands = ['cool']\nurgent = true", &urgent, None),
            ("internal = ['_audit']", &urgent, Some("grants")),
            ("internal = ['line-3/_audit']", &urgent, Some("grants")),
        ];
        for (grants, by, expected) in cases {
            let manifest = Manifest::parse(&format!("name = 'p'\ntopics = ['in']\n[grants]\n{grants}\n")).unwrap();
            let found = judge_grants(by, &manifest).map(|outcome| match outcome {
                Outcome::Refused { code, .. } => code,
                outcome => panic!("{outcome:?}"),
            });
            assert_eq!(found.as_deref(), expected, "{grants}");
        }
        // Another site's internal topics need no grant of people's own plugins, and are none of a link's.
        for (topic, is_refused) in [("line-3/_audit", true), ("a/b/_x", true), ("line-3/p_1", false), ("p_1", false)] {
            let manifest = Manifest::parse(&format!("name = 'p'\ntopics = ['in', '{topic}']\n")).unwrap();
            assert_eq!(judge_grants(&urgent, &manifest).is_some(), is_refused, "{topic}");
        }
        let guard = Manifest::parse("name = 'g'\nkind = 'command-guard'\ncommands = ['*']\n").unwrap();
        assert!(matches!(judge_grants(&urgent, &guard), Some(Outcome::Refused { code, .. }) if code == "guard"));
    }

    #[test]
    fn what_does_not_run_now_is_refused_only_where_it_never_will() {
        let said = |error: DeployError| does_not_run(Some(&error.into()));
        let io = || std::io::Error::other("it is full");
        for later in [said(DeployError::Missing("gone".to_owned())), said(DeployError::Io(io())), does_not_run(None)] {
            assert!(matches!(&later, Outcome::Later { .. }), "{later:?}");
        }
        let refused = said(DeployError::Broken("no export".to_owned()));
        assert!(matches!(&refused, Outcome::Refused { code, .. } if code == "does-not-run"), "{refused:?}");
    }

    #[test]
    fn whose_a_plugin_is_stands_in_its_manifest_until_people_touch_it() {
        let agreed = |manifest: String| AgreedPlugin {
            manifest,
            is_guard: false,
            sha256: [7; 32],
            bytes: 1,
            deployed_at_ms: 0,
            version: 1,
            begun: 1,
        };
        let manifest = Manifest::parse("name = 'p'\ntopics = ['in']\n").unwrap();
        let text = toml::to_string(&manifest).unwrap();
        let marked = format!("{}{text}", mark(7));
        assert!(is_of(7, &agreed(marked.clone())) && !is_of(8, &agreed(marked.clone())));
        assert_eq!((unmarked(&marked), unmarked(&text)), (text.as_str(), text.as_str()));
        // As a change of grants writes it, and a deployment of the same text.
        let read = Manifest::parse(&marked).unwrap();
        assert_eq!(read, manifest);
        assert!(!is_of(7, &agreed(toml::to_string(&read).unwrap())));
    }
}
