//! Whether the plugins that links need for their summaries are there and do what is wanted.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use crate::admin::links::SummaryJson;
use crate::event_log::EventLog;
use crate::links::{Edge, LinkSummary, PluginFacts};
use crate::plugin_host::{PluginHost, PluginStatus, RunState};

/// The summaries of a node's links.
pub struct Summaries {
    log: Arc<EventLog>,
    /// The plugin host starts after the links are read.
    plugins: OnceLock<Arc<PluginHost>>,
}

impl Summaries {
    /// Nothing is known of plugins yet.
    pub fn new(log: Arc<EventLog>) -> Self {
        Self { log, plugins: OnceLock::new() }
    }

    /// Who runs the plugins.
    pub fn set_plugins(&self, plugins: Arc<PluginHost>) {
        let _ = self.plugins.set(plugins);
    }

    /// Each link's summaries as they are now.
    pub fn of(&self, edge: &Edge) -> BTreeMap<String, Vec<SummaryJson>> {
        let mut all = edge.summaries();
        all.retain(|_, summaries| !summaries.is_empty());
        if all.is_empty() {
            return BTreeMap::new();
        }
        let plugins: Vec<PluginFacts> =
            self.plugins.get().map(|plugins| plugins.list()).unwrap_or_default().into_iter().map(facts).collect();
        let shown = |summary: LinkSummary| {
            let problem = summary.problem(&plugins, self.log.topic(&summary.topic).is_some());
            let upstream = summary.called().to_owned();
            let LinkSummary { topic, plugin, made, .. } = summary;
            SummaryJson { topic, plugin, made, upstream, problem }
        };
        all.into_iter().map(|(link, summaries)| (link, summaries.into_iter().map(shown).collect())).collect()
    }
}

/// What was said of summaries, so that each thing is logged once.
#[derive(Default)]
pub struct Told(BTreeMap<(String, String), Option<String>>);

impl Told {
    /// Logs what is new.
    pub fn tell(&mut self, all: BTreeMap<String, Vec<SummaryJson>>) {
        for (link, summaries) in all {
            for SummaryJson { topic, made, problem, .. } in summaries {
                let before = self.0.insert((link.clone(), made), problem.clone()).flatten();
                match problem {
                    Some(problem) if before.as_ref() != Some(&problem) => {
                        tracing::error!(link, topic, problem, "nothing goes of a topic that a link summarises");
                    }
                    None if before.is_some() => tracing::info!(link, topic, "a link's summary goes on"),
                    _ => {}
                }
            }
        }
    }
}

fn facts(status: PluginStatus) -> PluginFacts {
    let problem = match status.state {
        RunState::Broken(why) | RunState::BackingOff(why) => Some(why),
        RunState::Paused => Some("it waits while the node is cut off from most of its site".to_owned()),
        RunState::Stopped => Some("it has stopped".to_owned()),
        RunState::Starting | RunState::Running => status.problem,
    };
    let (reads, writes) = (status.manifest.topics, status.manifest.grants.emit);
    PluginFacts { name: status.name, reads, writes, problem }
}
