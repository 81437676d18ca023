//! What a site was to have of plugins goes with its link, and a removal is over when all gateways of its link have answered.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::{sleep, timeout};

use super::{LOOK_EVERY, LinkNode};

impl LinkNode {
    /// Looks whenever links have changed, or what is known of plugins, also by another node's word. Goes on for as long as the node runs.
    pub async fn watch_removed(self: Arc<Self>) {
        let Some(spread) = self.spread() else { return };
        let (mut changed, mut seen) = (self.catalog.watch(), None);
        loop {
            changed.borrow_and_update();
            let links = self.catalog.links().into_iter().filter(|(_, link)| link.is_revoked);
            let removed: BTreeSet<Arc<str>> = links.map(|(name, _)| name).collect();
            // Before it is read: what changes meanwhile is looked at next time.
            let revision = spread.wants().revision();
            let is_done = self.forget_plugins(removed).await && self.forget_strangers().await;
            if !is_done || !self.finish_removals().await {
                sleep(LOOK_EVERY).await;
                continue;
            }
            seen.replace(revision);
            while seen == Some(spread.wants().revision()) {
                match timeout(LOOK_EVERY, changed.changed()).await {
                    Ok(Ok(())) => break,
                    Ok(Err(_)) => return,
                    Err(_) => {}
                }
            }
        }
    }

    /// Forgets what a site was to have whose link people have removed, here and at the other nodes that are connected.
    pub(super) async fn forget_plugins_of(&self, name: &str) {
        let Some(spread) = self.spread() else { return };
        // What is said last counts: their numbers are known first.
        spread.hear_others().await;
        self.forget_plugins(BTreeSet::from([name.into()])).await;
        spread.tell_others().await;
    }

    /// Forgets what these sites were to have of plugins; false where that could not be stored.
    async fn forget_plugins(&self, removed: BTreeSet<Arc<str>>) -> bool {
        let Some(spread) = self.spread() else { return true };
        let wants = Arc::clone(spread.wants());
        let forgotten = tokio::task::spawn_blocking(move || wants.forget(&|site| removed.contains(site)));
        is_kept(forgotten.await, "what a removed site was to have of plugins is not forgotten")
    }

    /// Forgets what was wanted for a site whose name is another link's now, as where this node was cut off when the first one was removed; false
    /// where that could not be stored.
    async fn forget_strangers(&self) -> bool {
        let (Some(spread), Some((upstream, _))) = (self.spread(), &self.upstream) else { return true };
        let (wants, upstream) = (Arc::clone(spread.wants()), Arc::clone(upstream));
        let gateways = move |site: &str| upstream.gateways_of(site).into_iter().map(|gateway| gateway.0).collect();
        let forgotten = tokio::task::spawn_blocking(move || wants.forget_strangers(&gateways));
        is_kept(forgotten.await, "what a site was to have whose name is another one's now is not forgotten")
    }

    /// Notes the removals that all gateways of a link have answered, each to some node; false where that could not be stored.
    async fn finish_removals(&self) -> bool {
        let (Some(spread), Some((upstream, _))) = (self.spread(), &self.upstream) else { return true };
        let (wants, upstream) = (Arc::clone(spread.wants()), Arc::clone(upstream));
        let gateways = move |site: &str| upstream.gateways_of(site).into_iter().map(|gateway| gateway.0).collect();
        let finished = tokio::task::spawn_blocking(move || wants.finish(&gateways));
        is_kept(finished.await, "a plugin that a site has removed is still listed")
    }
}

fn is_kept<E: std::fmt::Display>(done: Result<Result<(), E>, tokio::task::JoinError>, what: &str) -> bool {
    match done {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::error!(%error, "{what}");
            false
        }
        Err(_) => false,
    }
}
