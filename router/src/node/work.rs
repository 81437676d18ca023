//! Keeps the site's work where its data is: proposes what the keeper decides, and tells the plugins what to read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sled_data::{CommitNumber, OriginId};

use super::arrived::{Arrived, CaughtUp, LeftOut, Missed, Missing, arrived, goes_on_itself, others_wrote};
use super::hearing::{Line, is_majority};
use super::keeper::{Scene, decide};
use super::proposer::Proposer;
use super::site::SiteNode;
use super::wires::writer_of;
use crate::catalog::Lease;
use crate::commands::{Commands, Lost};
use crate::plugin_host::{self, Duties, Kind, PluginHost, Scope};
use crate::replication::Replication;
use crate::replication::peers::PeerState;
use crate::sessions::Knows;
use crate::transport::NodeId;

/// How often it looks, besides when what was decided changes.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long it is waited for at most that all who are heard say what they have of a node that was lost.
const SAID_MAX: Duration = Duration::from_secs(10);
/// Who the audit says proposed it.
const WHO: &str = "keeper";

impl SiteNode {
    /// Keeps plugins and decisions in step, for as long as the node runs.
    pub(super) async fn keep_work(
        self: Arc<Self>,
        plugins: Arc<PluginHost>,
        commands: Arc<Commands>,
        replication: Arc<Replication>,
    ) {
        let mut changed = self.catalog.watch();
        let (mut duties, mut proposer) = (Duties::default(), Proposer::default());
        let (mut caught_up, mut missing) = (CaughtUp::default(), Missing::default());
        loop {
            let peers = self.peers().map(|peers| peers.states()).unwrap_or_default();
            self.tell_heard(&peers);
            self.tell_duties(&plugins, &replication, &peers, &mut duties);
            self.tell_commands(&commands, &replication, &peers);
            let left_out = LeftOut::of(&self.log, &self.book.following());
            let needed = self.others_wrote(&replication, &peers, &left_out);
            let followed = self.log.store().followed();
            let arrived = needed.as_ref().map(|needed| arrived(needed, &followed));
            if commands.is_held_back() {
                match arrived {
                    Some(Arrived::All) => commands.go_on(),
                    Some(Arrived::BeingCopied) => commands.hold_on(),
                    Some(Arrived::NotYet) | None => {}
                }
            }
            let knows = caught_up.look(&peers, arrived == Some(Arrived::All), left_out.has_present(&peers));
            if let (Knows::Part, Some(needed)) = (knows, &needed)
                && let Some(missed) = missing.look(needed, &followed, self.log.clock().monotonic())
            {
                replication.trouble("others-not-here", text_of(missed));
            }
            self.doors.get().into_iter().for_each(|doors| doors.sessions().tell_known(knows));
            if self.catalog.is_leader() && !proposer.is_busy() {
                let catalog = Arc::clone(&self.catalog);
                proposer.begin(decide(&self.scene(&plugins, &replication, &peers)), move |change| {
                    let catalog = Arc::clone(&catalog);
                    async move { catalog.propose_now(change, WHO).await.map(drop) }
                });
            }
            let _ = tokio::time::timeout(LOOK_EVERY, changed.changed()).await;
        }
    }

    /// What plugins read before anybody is heard: what was decided last.
    pub(super) fn first_duties(&self) -> Duties {
        match self.identity {
            // What others hold is not known yet.
            Some(_) => plugin_host::duties(&self.site_of(&[], |_| true)),
            None => Duties::alone_after(self.log.ended_lives().to_vec()),
        }
    }

    /// Tells the catalog who is heard: one that hears no majority stands for no election.
    fn tell_heard(&self, peers: &[PeerState]) {
        let now = self.log.clock().monotonic();
        let silence = |peer: &PeerState| Some((peer.node, now.saturating_sub(peer.known.as_ref()?.heard)));
        self.catalog.hear(&peers.iter().filter_map(silence).collect());
    }

    /// Whether this node may have been taken over without knowing it: it hears no majority, or nobody who leads one, or does not have yet
    /// what was agreed on meanwhile.
    fn is_cut_off(&self, peers: &[PeerState]) -> bool {
        let me = self.place.node;
        let is_heard = |node: NodeId| node == me || peers.iter().any(|peer| peer.node == node && peer.is_connected);
        let hears_majority = is_majority(&self.catalog.members(), is_heard);
        let line = |peer: &PeerState| Line {
            node: peer.node,
            is_up: peer.is_connected,
            since: peer.since,
            process: peer.known.as_ref().map_or(0, |known| known.incarnation),
        };
        let lines: Vec<Line> = peers.iter().map(line).collect();
        self.hearing.lock().look(hears_majority, &lines, self.log.clock().monotonic());
        !(hears_majority && self.catalog.is_in_touch())
    }

    fn tell_duties(&self, plugins: &PluginHost, replication: &Replication, peers: &[PeerState], last: &mut Duties) {
        let (held, said) = (replication.held_by_others(), replication.held_by_others().all());
        // Who is here and has not said it yet may.
        let may_hold = |peer: &PeerState, life: OriginId| match said.get(&peer.node) {
            Some(holds) if !peer.is_connected || held.has_said_since(peer.node, peer.since) => {
                holds.contains_key(&life)
            }
            _ => peer.is_connected,
        };
        let next = plugin_host::duties(&self.site_of(peers, |life| peers.iter().any(|peer| may_hold(peer, life))));
        if next != *last {
            tracing::info!(
                taken_over = next.taken_over.len(),
                shares = next.shares.len(),
                "what plugins read here changes"
            );
            last.clone_from(&next);
            plugins.set_duties(Arc::new(next));
        }
    }

    /// Tells the commands whose they have to take up.
    fn tell_commands(self: &Arc<Self>, commands: &Arc<Commands>, replication: &Replication, peers: &[PeerState]) {
        let members = self.catalog.members();
        let writer = |origin: u64| writer_of(OriginId(origin), peers, &members);
        let is_heard = |origin: u64| writer(origin).is_some_and(|peer| peer.is_connected);
        // Against the clock that nobody sets: this node's wall clock may be set after the lost one was heard last.
        let ahead_ms = |origin: u64| writer(origin)?.known.as_ref().map(|known| known.wall_ahead_ms);
        let clock = self.log.clock();
        let own_ahead_ms = clock.wall_ms().saturating_sub(i64::try_from(clock.steady_ms()).unwrap_or(i64::MAX));
        let own = self.log.origin().0;
        let held = replication.believed(peers);
        let followed = self.log.store().followed();
        let goes_on = |origin: u64| {
            let followed = followed.iter().find(|(followed, _)| followed.0 == origin);
            let was_outlived = |present| self.log.was_outlived_before(present, OriginId(origin)).unwrap_or(false);
            followed.is_some_and(|(_, life)| {
                goes_on_itself(NodeId(life.node), OriginId(origin), peers, &held, was_outlived)
            })
        };
        let left = self.catalog.take_overs().into_iter().filter(|(origin, taken)| {
            let is_taken_here = taken.by == self.place.node && !taken.has_returned;
            *origin != own && is_taken_here && !is_heard(*origin) && !goes_on(*origin)
        });
        let lost = left.map(|(origin, taken)| Lost {
            origin: OriginId(origin),
            term: taken.term,
            from_commit: CommitNumber(taken.from_commit),
            ahead_ms: ahead_ms(origin).unwrap_or(own_ahead_ms),
        });
        commands.take_up_from(lost.collect());
    }

    /// Up to where what the others had written when they were heard last is to be here; `None`: one has not said it.
    fn others_wrote(
        &self,
        replication: &Replication,
        peers: &[PeerState],
        left_out: &LeftOut,
    ) -> Option<BTreeMap<OriginId, CommitNumber>> {
        let held = replication.held_by_others().all();
        others_wrote(peers, &held, left_out, self.log.clock().monotonic())
    }

    /// The site, as what a node has to do follows from it. `may_be_held`: whether another may hold a life.
    fn site_of(&self, peers: &[PeerState], may_be_held: impl Fn(OriginId) -> bool) -> plugin_host::Site {
        // First: what is read then is not older than what is known to be here.
        let is_cut_off = self.is_cut_off(peers);
        let members = self.catalog.members();
        let (me, own) = (self.place.node, self.log.store().origin());
        let mut lives: BTreeMap<NodeId, OriginId> =
            members.iter().filter_map(|member| Some((member.node, OriginId(member.origin?)))).collect();
        let is_known = lives.insert(me, own) == Some(own);
        let take_overs = self.catalog.take_overs();
        let is_open = |node: NodeId| {
            let life = lives.get(&node);
            take_overs.iter().any(|(origin, taken)| life == Some(&OriginId(*origin)) && !taken.has_returned)
        };
        let here = members.iter().map(|member| member.node).filter(|node| !is_open(*node)).collect();
        let policy = self.catalog.site().map_or_else(Lease::default, |site| site.lease);
        // Of a life without events nobody can have anything that does not hold it: it is as if nothing had been decided of it.
        let is_taken_over = |life: OriginId| {
            let taken = take_overs.iter().find(|(origin, _)| *origin == life.0);
            taken.is_some_and(|(_, taken)| taken.by == me || may_be_held(life))
        };
        // They matter where a life was taken over.
        let (ended, chains) = match take_overs.is_empty() {
            true => (self.log.ended_lives().to_vec(), Vec::new()),
            false => {
                let ended = self.log.lives_before(is_taken_over);
                let chains = self.log.chains(me.0, &ended);
                (ended, chains)
            }
        };
        plugin_host::Site {
            me,
            ended,
            chains,
            is_known,
            here,
            take_overs: take_overs.iter().map(|(origin, taken)| (OriginId(*origin), to_host(taken))).collect(),
            assignments: self
                .catalog
                .assignments()
                .into_iter()
                .map(|((plugin, index), set)| {
                    let assignment =
                        plugin_host::Assignment { node: set.node, term: set.term, before: set.before.clone() };
                    ((plugin.to_string(), index), assignment)
                })
                .collect(),
            lives,
            is_paused: is_cut_off && policy == Lease::Pause,
        }
    }

    fn scene(&self, plugins: &PluginHost, replication: &Replication, peers: &[PeerState]) -> Scene {
        let me = self.place.node;
        let now = self.log.clock().monotonic();
        let mut heard: BTreeSet<NodeId> = peers.iter().filter(|peer| peer.is_connected).map(|peer| peer.node).collect();
        heard.insert(me);
        let hearing = self.hearing.lock();
        let is_lost = |peer: &&PeerState| !peer.is_connected && hearing.is_lost(peer.node, peer.since, now);
        let lost: BTreeMap<NodeId, Duration> =
            peers.iter().filter(is_lost).map(|peer| (peer.node, peer.since)).collect();
        drop(hearing);
        let held = replication.held_by_others();
        let lost_since = lost.values().max().copied().filter(|since| now.saturating_sub(*since) < SAID_MAX);
        let has_said = |peer: &PeerState| lost_since.is_none_or(|since| held.has_said_since(peer.node, since));
        let is_asking = !peers.iter().filter(|peer| peer.is_connected).all(has_said);
        let mut holds = replication.believed(peers);
        holds.insert(me, replication.held_here());
        let shared = plugins
            .list()
            .into_iter()
            .filter(|plugin| plugin.kind == Kind::Consumer && plugin.manifest.scope == Scope::Site);
        let numbers = |topics: &[String]| {
            topics.iter().filter_map(|name| self.log.topic(name)).map(|topic| topic.partitions()).max().unwrap_or(0)
        };
        Scene {
            members: self.catalog.members().to_vec(),
            heard,
            lost: lost.into_keys().collect(),
            holds,
            is_asking,
            take_overs: self
                .catalog
                .take_overs()
                .into_iter()
                .map(|(origin, taken)| (OriginId(origin), taken))
                .collect(),
            deployed: self.catalog.plugins().iter().map(|(name, set)| (name.to_string(), set.begun)).collect(),
            may_forget: self.catalog.level() >= 2,
            shared: shared.map(|plugin| (plugin.name, numbers(&plugin.manifest.topics))).collect(),
            assignments: self
                .catalog
                .assignments()
                .into_iter()
                .map(|((plugin, index), set)| ((plugin.to_string(), index), set))
                .collect(),
        }
    }
}

fn to_host(taken: &crate::catalog::TakeOver) -> plugin_host::TakeOver {
    plugin_host::TakeOver {
        from_commit: CommitNumber(taken.from_commit),
        by: taken.by,
        term: taken.term,
        before: taken.before.clone(),
    }
}

/// What people are told of a life of which something is missing.
fn text_of(missed: Missed) -> String {
    let Missed { origin, commits: (here, there) } = missed;
    format!(
        "origin {origin} is here up to commit {here}, another node has it up to {there}, and nothing of it comes; sessions that may have gone on \
         there begin anew here when their clients have QoS 2 in flight. `edgeway node status` tells who has it; the log of this node tells why it \
         is not followed"
    )
}
