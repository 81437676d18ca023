//! A site of three nodes on one machine: what the quorum costs, and how soon a lost node is missed.

pub mod catch_up;
mod cuts;
pub mod flap;
mod idle;
pub mod link;
mod loss;
pub mod many;
pub mod nodes;
mod rates;
pub mod thin;
pub mod view;

use crate::bench::error::BenchError;
use crate::bench::groups::Context;
use crate::bench::report::Row;

/// The topic whose events a majority must have, and the one that asks only the node's own disk; readings below the
/// first level of each name go there.
const QUORUM: &str = "telemetry";
const LOCAL: &str = "local";

/// The second topic's routing; the node's own settings have the first one's.
const ROUTING: &str = "\
[[routing.rules]]
pattern = 'local/{device}/{metric}'
topic = 'local'
key = '{device}'
";

/// All but the catch-up, which takes its time.
pub fn run(context: &Context) -> Result<Vec<Row>, BenchError> {
    let folder = context.store("site")?;
    let mut site = nodes::Site::start(&context.binary, &folder, 3, ROUTING)?;
    site.create_topic(QUORUM, "quorum")?;
    site.create_topic(LOCAL, "sync")?;
    let mut rows = rates::run(context, &site)?;
    rows.extend(loss::run(&mut site)?);
    rows.extend(idle::run(&site)?);
    site.stop()?;
    context.remove(&folder)?;
    Ok(rows)
}
