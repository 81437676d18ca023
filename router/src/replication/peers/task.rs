//! Does what the plan says, for as long as the node runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::dial::dial;
use super::plan::{Step, plan};
use super::{Close, Member, Shared};

/// How often what is known of the nodes is told anew at the least.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Keeps the connections to the nodes of the site's list.
pub(super) async fn drive(shared: Arc<Shared>, mut members: watch::Receiver<Arc<Vec<Member>>>) {
    let mut dials = JoinSet::new();
    let mut list_lives = true;
    loop {
        let now = shared.clock.monotonic();
        let list = Arc::clone(&members.borrow_and_update());
        let (notice, plan) = {
            let mut table = shared.table.lock();
            let notice = table.sync(&list, now);
            (notice, plan(now, shared.own.node, table.stands()))
        };
        shared.tell(notice);
        for step in plan.steps {
            take(&shared, step, &mut dials);
        }
        shared.publish();
        let wait = plan.next.map_or(TELL_EVERY, |next| next.saturating_sub(now)).min(TELL_EVERY);
        tokio::select! {
            changed = members.changed(), if list_lives => list_lives = changed.is_ok(),
            () = shared.wake.notified() => {}
            Some(_) = dials.join_next(), if !dials.is_empty() => {}
            () = sleep(wait) => {}
        }
    }
}

fn take(shared: &Arc<Shared>, step: Step, dials: &mut JoinSet<()>) {
    match step {
        Step::Dial(node) | Step::Knock(node) => {
            if let Some((member, turn)) = shared.table.lock().begin_dial(node) {
                let is_knock = matches!(step, Step::Knock(_));
                dials.spawn(dial(Arc::clone(shared), member, turn, is_knock));
            }
        }
        Step::Drop(node) => {
            let link = shared.table.lock().drop_seat(node);
            if let Some(link) = link {
                link.close(Close::Removed, "this node was removed from the site");
            }
        }
    }
}
