//! The headquarters' part: commands to devices of linked sites go to a gateway that is connected, and end as it says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use devices::command::{CommandId, Repeat, State, Why, WhyCode};
use sled_data::OriginId;
use tokio::sync::oneshot;

use super::super::Commands;
use super::super::forward::ForwardError;
use super::super::table::{Now, Room, SiteEnd, Table};
use super::progress::VERSION_PROGRESS;
use super::wire::{ASKED_MAX, Answer, EndedV1, GivenV1, TOLD_MAX, decode, encode};
use super::{DownWay, site_of};
use crate::event_log::SITE_SEPARATOR;

/// The version byte before what a node of the site hands on of a gateway's ends, and before its answer; others are those of
/// submissions.
pub(in crate::commands) const VERSION_BELOW: u8 = 3;
/// The version byte before the answer of a node that holds some of the commands open: what it knows, and those. A program of before takes it for
/// a node that was not heard.
const VERSION_HELD: u8 = 8;
/// Commands that one gateway may have, or may be about to have; others wait here.
const UNDER_WAY_MAX: usize = 1_000;
/// Bytes of commands that a gateway is asked to take at once.
const ASKED_BYTES_MAX: usize = 96 << 10;

/// What a gateway says of commands that have ended.
pub struct SiteEnded {
    pub(in crate::commands) gateway: OriginId,
    pub(in crate::commands) ends: Vec<(CommandId, SiteEnd)>,
    pub(in crate::commands) reply: oneshot::Sender<()>,
}

/// Whose word counts about how a command ended.
enum Whose {
    /// The gateway's that says it; with the one that the command was given to.
    Its(OriginId),
    /// The command was given to a gateway and is open here, and that one is not known to be of its site: it may be known in a moment.
    Open,
    /// This node waits for no end of it.
    NotHere,
}

/// What a gateway tells of ends, sorted.
#[derive(Default)]
struct Told {
    /// Of commands that this node has given, each with the gateway that it was given to.
    own: Vec<(OriginId, EndedV1)>,
    /// Of those that it has not, or that have ended.
    others: Vec<EndedV1>,
    /// Those that are open here and not this gateway's to end: they are told again.
    open: Vec<[u8; 16]>,
}

/// What another node says of ends that it was told: those that it knows, and those that are to be told again.
type Theirs = (Vec<[u8; 16]>, Vec<[u8; 16]>);

impl Commands {
    /// Gives it the way down links; to be called before the task runs. Without it no site feeds this one.
    pub fn set_down(&self, way: Arc<dyn DownWay>) {
        let _ = self.down.way.set(way);
    }

    /// A gateway of a site can be asked from now on.
    pub fn gateway_came(&self, site: &str, gateway: OriginId) {
        self.mail.gateway_came(site, gateway);
    }

    /// A gateway's line has ended: perhaps it is at another node by now.
    pub fn gateway_left(&self) {
        self.mail.gateway_left();
    }

    /// A gateway says how commands have ended, or how far they are. What it is to be told once that is durable here, or at the node of this site that
    /// gave them; `None`, or what is not among it: it is to say so again.
    pub async fn ended_below(&self, gateway: OriginId, request: &[u8]) -> Option<Vec<u8>> {
        if request.first() == Some(&VERSION_PROGRESS) {
            self.progress_below(gateway, request);
            return None;
        }
        let told: Vec<EndedV1> = decode(request)?;
        let told: Vec<EndedV1> = told.into_iter().take(TOLD_MAX).collect();
        let Told { own, mut others, .. } = self.given_here(gateway, told);
        let mut known: Vec<[u8; 16]> = own.iter().map(|(_, end)| end.id).collect();
        self.end_below(own).await?;
        if let Some(forward) = self.forward.get() {
            let mut is_one_silent = false;
            for origin in self.may_wait() {
                if others.is_empty() {
                    break;
                }
                let question = [&[VERSION_BELOW][..], &gateway.0.to_be_bytes(), &encode(&others)].concat();
                let theirs = forward.submit(origin, question).await.ok().and_then(|answer| read_theirs(&answer));
                match theirs {
                    Some((theirs, open)) => {
                        others.retain(|end| !theirs.contains(&end.id) && !open.contains(&end.id));
                        known.extend(theirs);
                    }
                    None => is_one_silent = true,
                }
            }
            if is_one_silent {
                // What nobody else has may be that node's: the gateway says so again until it is heard.
                others.clear();
            }
        }
        // Nobody waits for the rest: it is forgotten, or this site was set back.
        known.extend(others.iter().map(|end| end.id));
        Some(encode(&known))
    }

    /// Takes what another node of the site has heard of a gateway; the commands that this one gave, once their ends are durable, and those that it
    /// holds open.
    pub(in crate::commands) async fn ended_below_elsewhere(&self, request: &[u8]) -> Vec<u8> {
        let read = || {
            let (gateway, told) = request.strip_prefix(&[VERSION_BELOW])?.split_first_chunk::<8>()?;
            Some((OriginId(u64::from_be_bytes(*gateway)), decode::<Vec<EndedV1>>(told)?))
        };
        let Some((gateway, mut told)) = read() else { return Vec::new() };
        told.truncate(TOLD_MAX);
        let Told { own, open, .. } = self.given_here(gateway, told);
        let ids: Vec<[u8; 16]> = own.iter().map(|(_, end)| end.id).collect();
        match self.end_below(own).await {
            Some(()) => write_theirs((ids, open)),
            // Who asks takes it for a node that was not heard, and the gateway says so again.
            None => Vec::new(),
        }
    }

    /// Other nodes' lives whose commands a gateway may have.
    fn may_wait(&self) -> Vec<OriginId> {
        let others = self.log.others();
        let Some(directory) = self.directory.get() else { return others };
        let catalog = directory.catalog();
        let written = catalog.members().iter().filter_map(|member| member.origin).map(OriginId).collect();
        let taken = catalog.take_overs().into_iter().map(|(origin, _)| OriginId(origin)).collect();
        may_wait(others, &written, &taken)
    }

    /// Sorts ends that a gateway tells.
    fn given_here(&self, gateway: OriginId, told: Vec<EndedV1>) -> Told {
        let mut sorted = Told::default();
        for end in told {
            match self.whose(CommandId::from_bytes(end.id), gateway) {
                Whose::Its(to) => sorted.own.push((to, end)),
                Whose::Open => sorted.open.push(end.id),
                Whose::NotHere => sorted.others.push(end),
            }
        }
        sorted
    }

    /// The gateway that this node has handed a command to, where `gateway` may speak for it.
    pub(super) fn gave(&self, id: CommandId, gateway: OriginId) -> Option<OriginId> {
        match self.whose(id, gateway) {
            Whose::Its(to) => Some(to),
            Whose::Open | Whose::NotHere => None,
        }
    }

    /// Whether a gateway may speak for a command. All of a site may for those that the site was given: one that took a new token has another id, and
    /// the same commands; the one before it may be listed still, or not any more.
    fn whose(&self, id: CommandId, gateway: OriginId) -> Whose {
        let found = {
            let table = self.table.lock();
            table.get(id).and_then(|entry| {
                Some((entry.away?.to, Arc::clone(&entry.device), entry.progress.state().is_outcome()))
            })
        };
        let Some((to, device, has_ended)) = found else { return Whose::NotHere };
        if to == gateway {
            return Whose::Its(to);
        }
        let is_at_node = to == self.log.origin() || self.log.others().contains(&to);
        let Some(site) = site_of(&device).filter(|_| !is_at_node) else { return Whose::NotHere };
        match self.down.way().is_some_and(|way| way.gateways_of(site).contains(&gateway)) {
            true => Whose::Its(to),
            false if has_ended => Whose::NotHere,
            false => Whose::Open,
        }
    }

    /// Ends commands as gateways say, each of the one that it was given to; returns once that is durable, `None` where it is not.
    async fn end_below(&self, told: Vec<(OriginId, EndedV1)>) -> Option<()> {
        let mut by_gateway: BTreeMap<OriginId, Vec<(CommandId, SiteEnd)>> = BTreeMap::new();
        for (gateway, end) in told {
            // What cannot be read is done with as well: it will not be read the next time either.
            by_gateway.entry(gateway).or_default().extend(end.end());
        }
        for (gateway, ends) in by_gateway {
            let (reply, done) = oneshot::channel();
            self.mail.ended_below(SiteEnded { gateway, ends, reply });
            done.await.ok()?;
        }
        Some(())
    }

    /// The gateway that a site's commands can go to from this node.
    pub(in crate::commands) fn gateway_of(&self, site: &str) -> Option<OriginId> {
        self.down.way()?.gateway(site)
    }

    /// A gateway of a site that can be asked, of those that are listed, be it through another node; it is looked for where none is known.
    pub(super) fn gateway_for(&self, site: &str, listed: &BTreeSet<OriginId>) -> Option<OriginId> {
        let here = self.down.way().map(|way| way.gateways()).unwrap_or_default();
        let here = here.into_iter().find(|(of, gateway)| of == site && listed.contains(gateway));
        let found = here.map(|(_, gateway)| gateway).or_else(|| self.down.elsewhere.gateway(site, listed));
        if found.is_none() {
            self.down.elsewhere.seek(site);
        }
        found
    }

    /// The gateways that may have commands and have not said so, and can be asked.
    pub(in crate::commands) fn unsure_gateways(&self, table: &Table) -> Vec<OriginId> {
        let mut unsure = table.gateways_with_commands();
        unsure.retain(|gateway| table.is_unsure_at(*gateway));
        if unsure.is_empty() {
            return unsure;
        }
        let here = self.down.way().map(|way| way.gateways()).unwrap_or_default();
        let here = here.into_iter().map(|(_, gateway)| gateway);
        let reached: BTreeSet<OriginId> = here.chain(self.down.elsewhere.gateways()).collect();
        unsure.retain(|gateway| reached.contains(gateway));
        unsure
    }

    /// Asks a gateway, from here or through the node that it is at; to be run on its own.
    pub(in crate::commands) fn ask_gateway(
        &self,
        gateway: OriginId,
        question: Vec<u8>,
    ) -> impl Future<Output = Result<Vec<u8>, ForwardError>> + Send + use<> {
        let (way, forward) = (self.down.way(), self.forward.get().map(Arc::clone));
        let elsewhere = Arc::clone(&self.down.elsewhere);
        async move { super::elsewhere::ask(way, forward, &elsewhere, gateway, question).await }
    }

    /// How many commands, and bytes of them, a gateway can be given now.
    pub(in crate::commands) fn room_at(table: &Table, gateway: OriginId) -> Room {
        let free = UNDER_WAY_MAX.saturating_sub(table.under_way_to(gateway));
        Room { count: free.min(ASKED_MAX), bytes: ASKED_BYTES_MAX }
    }

    /// What a gateway is asked about again at once.
    pub(in crate::commands) fn again_at(table: &Table, gateway: OriginId) -> Vec<CommandId> {
        table.unsure_at(gateway, Room { count: ASKED_MAX, bytes: ASKED_BYTES_MAX })
    }

    /// What a gateway is asked to take.
    pub(in crate::commands) fn given(table: &Table, ids: &[CommandId], is_first: bool, now: Now) -> Vec<u8> {
        let given = ids.iter().filter_map(|id| {
            let entry = table.get(*id)?;
            let (_, device) = entry.device.split_once(SITE_SEPARATOR)?;
            let queued = &entry.queued;
            // What it has it is asked about alone: it is not to be taken again.
            let is_sure = entry.away.is_some_and(|away| away.is_sure);
            // Nor is one that is called off.
            let is_not_taken = is_sure || entry.called_off.is_some();
            Some(GivenV1 {
                id: *id.as_bytes(),
                device: device.to_owned(),
                name: queued.name.clone(),
                payload: if is_not_taken { Vec::new() } else { entry.submitted_payload().to_vec() },
                age_ms: now.wall.saturating_sub(entry.at_ms),
                left_ms: if is_not_taken { 0 } else { entry.deliver_by.saturating_sub(now.steady) },
                // The step that hands it over was its last one.
                asked_ms: (!is_first).then(|| now.wall.saturating_sub(entry.changed_ms)),
                execution_timeout_ms: entry.execution_timeout_ms(),
                urgent: queued.urgent,
                supersede: queued.supersede.clone(),
                never_repeat: queued.repeat == Repeat::Never,
                deliveries_max: queued.deliveries_max,
                issued_by: queued.issued_by.clone(),
            })
        });
        encode(&given.collect::<Vec<_>>())
    }
}

fn write_theirs(theirs: Theirs) -> Vec<u8> {
    match theirs {
        (known, open) if open.is_empty() => [&[VERSION_BELOW][..], &encode(&known)].concat(),
        both => [&[VERSION_HELD][..], &encode(&both)].concat(),
    }
}

/// Reads it; `None` where that node cannot be taken to have been heard.
fn read_theirs(answer: &[u8]) -> Option<Theirs> {
    match answer.split_first()? {
        (&VERSION_BELOW, known) => Some((decode(known)?, Vec::new())),
        (&VERSION_HELD, both) => decode(both),
        _ => None,
    }
}

/// Takes what a gateway answers of one command.
pub(in crate::commands) fn take_answer(
    table: &mut Table,
    (id, gateway): (CommandId, OriginId),
    answer: Answer,
    now: Now,
) {
    table.asked_again(id, gateway);
    let entry = table.get(id);
    let is_sure = entry.is_some_and(|entry| entry.away.is_some_and(|away| away.is_sure));
    let called_off = entry.and_then(|entry| entry.called_off.clone());
    let end = match answer {
        Answer::Taken => return table.moved(id, gateway, now),
        Answer::Refused { code, text } if !is_sure => {
            SiteEnd::because(State::Refused, Why { code: WhyCode::LinkRefused, by: code, text })
        }
        Answer::TooLate if !is_sure => match called_off {
            Some(by) => SiteEnd::because(State::Cancelled, Why::by(WhyCode::Cancelled, by)),
            None => SiteEnd { outcome: State::Expired, answer: None, why: None },
        },
        // It had it, and knows nothing of it any more.
        Answer::Lost | Answer::TooLate | Answer::Refused { .. } => {
            let text = "the gateway's store was set back since it was asked to take it".to_owned();
            SiteEnd::because(State::Unknown, Why { code: WhyCode::NodeLost, by: String::new(), text })
        }
    };
    table.ended_at_site(id, gateway, end, now);
}

/// Of lives that are followed here those that may wait for a command's end: those that a node of the site writes, and those that nobody has taken up
/// yet. Of the others nobody will ever answer (pure).
fn may_wait(mut others: Vec<OriginId>, written: &BTreeSet<OriginId>, taken: &BTreeSet<OriginId>) -> Vec<OriginId> {
    others.retain(|origin| written.contains(origin) || !taken.contains(origin));
    others
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_may_wait_is_asked() {
        let lives = |all: &[u64]| all.iter().copied().map(OriginId).collect::<Vec<_>>();
        let (written, taken) = (lives(&[1, 2]).into_iter().collect(), lives(&[2, 3]).into_iter().collect());
        // 2 was taken up from, and is back or will be; 3 is over; nobody has taken up 4 yet.
        assert_eq!(may_wait(lives(&[1, 2, 3, 4]), &written, &taken), lives(&[1, 2, 4]));
    }

    #[test]
    fn what_another_node_says_of_ends_has_these_bytes() {
        for (theirs, bytes) in [
            ((vec![[7; 16]], vec![]), [&[3, 1, 1][..], &[7; 16]].concat()),
            ((vec![], vec![]), vec![3, 1, 0]),
            ((vec![[7; 16]], vec![[9; 16]]), [&[8, 1, 1][..], &[7; 16], &[1], &[9; 16]].concat()),
        ] {
            assert_eq!((write_theirs(theirs.clone()), read_theirs(&bytes)), (bytes.clone(), Some(theirs)));
        }
        for wrong in [&[][..], &[3], &[8, 1, 0], &[9, 1, 0], &[3, 1, 0, 0]] {
            assert_eq!(read_theirs(wrong), None, "{wrong:?}");
        }
    }
}
