//! The wires between commands and links: neither room knows the other.

use std::sync::{Arc, Weak};

use sled_data::OriginId;

use crate::commands::{Above, Answering, Commands, DownWay, ForwardError, Listed};
use crate::links::{AskError, ByLink, COMMANDS, GiveDown, Pending, TakeDown, URGENT, Upstream};
use crate::transport::NodeId;

/// The way down to the sites that feed this one. A gateway is known to commands by its id, as if it were a life.
pub(super) struct Below(pub(super) Arc<Upstream>);

impl DownWay for Below {
    fn has_site(&self, site: &str) -> bool {
        self.0.has_site(site)
    }

    fn is_removed(&self, site: &str) -> bool {
        self.0.is_removed(site)
    }

    fn gateway(&self, site: &str) -> Option<OriginId> {
        self.0.desk().gateway_of(site).map(|gateway| OriginId(gateway.0))
    }

    fn gateways(&self) -> Vec<(String, OriginId)> {
        self.0.desk().gateways().into_iter().map(|(site, gateway)| (site, OriginId(gateway.0))).collect()
    }

    fn gateways_of(&self, site: &str) -> Vec<OriginId> {
        self.0.gateways_of(site).into_iter().map(|gateway| OriginId(gateway.0)).collect()
    }

    fn ask(&self, gateway: OriginId, request: Vec<u8>) -> Answering<'_> {
        Box::pin(async move {
            self.0.desk().ask(NodeId(gateway.0), request).await.map_err(|error| match error {
                AskError::NotAsked => ForwardError::Unreachable(error.to_string()),
                AskError::Unanswered(_) => ForwardError::Unanswered(error.to_string()),
            })
        })
    }
}

/// What gateways say, for commands. It does not hold the room, which holds the links.
pub(super) struct Giving(pub(super) Weak<Commands>);

impl GiveDown for Giving {
    fn gateway_came(&self, site: &str, gateway: NodeId) {
        if let Some(commands) = self.0.upgrade() {
            commands.gateway_came(site, OriginId(gateway.0));
        }
    }

    fn gateway_left(&self) {
        if let Some(commands) = self.0.upgrade() {
            commands.gateway_left();
        }
    }

    fn ended(&self, gateway: NodeId, said: Vec<u8>) -> Pending<'_, Option<Vec<u8>>> {
        Box::pin(async move { self.0.upgrade()?.ended_below(OriginId(gateway.0), &said).await })
    }
}

/// What upstream sites bring, for commands. It does not hold the room.
pub(super) struct Taking(pub(super) Weak<Commands>);

impl TakeDown for Taking {
    fn take(&self, by: ByLink, asked: Vec<u8>) -> Pending<'_, Vec<u8>> {
        Box::pin(async move {
            let Some(commands) = self.0.upgrade() else { return Vec::new() };
            let listed = Listed { commands: by.may_bring(COMMANDS), urgent: by.may_bring(URGENT) };
            commands.take_from_above(Above { name: by.name, link: by.link, listed }, asked).await
        })
    }

    fn has_ended(&self, link: u64) -> bool {
        self.0.upgrade().is_some_and(|commands| commands.has_ended_from_above(link))
    }

    fn ended(&self, link: u64, after: u64) -> Pending<'_, Option<(Vec<u8>, u64)>> {
        Box::pin(async move { self.0.upgrade()?.ended_from_above(link, after).await })
    }

    fn progress(&self, link: u64, anew: bool) -> Pending<'_, Option<Vec<u8>>> {
        Box::pin(async move { self.0.upgrade()?.progress_from_above(link, anew).await })
    }

    fn known(&self, link: u64, said: Vec<u8>) {
        if let Some(commands) = self.0.upgrade() {
            commands.known_above(link, &said);
        }
    }
}
