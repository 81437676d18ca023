//! `cargo xtask demo`: the main job in half a minute, with a proof at its end.

mod panel;
mod proof;
mod stage;
mod story;

use std::path::Path;
use std::time::{Duration, Instant};

use crate::bench::BenchError;
use crate::components;
use crate::error::TaskError;

use panel::{Panel, View, grouped};
use stage::Stage;
use story::{Act, Story};

/// How often the story is asked and the panel drawn.
const FRAME: Duration = Duration::from_millis(100);
/// How long the devices may take to have their last readings acknowledged.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Devices that overheat in the story.
const OVERHEATED: u64 = 2;

/// Builds plugins and node, tells the story, and proves that nothing that was
/// acknowledged was lost.
///
/// # Errors
/// When something cannot be built or started, does not happen in time, or when
/// the proof fails.
pub fn run(root: &Path) -> Result<(), TaskError> {
    components::build_plugins(root)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|source| TaskError::Start { command: "the devices".to_owned(), source })?;
    Ok(runtime.block_on(told(root))?)
}

async fn told(root: &Path) -> Result<(), BenchError> {
    let mut stage = Stage::set(root)?;
    let mut story = Story::new();
    let mut panel = Panel::new();
    let started = Instant::now();
    let mut view;
    loop {
        tokio::time::sleep(FRAME).await;
        let elapsed = started.elapsed();
        let seen = stage.seen(story.device())?;
        let act = story.next(elapsed, &seen);
        view = stage.view(story.device())?;
        (view.elapsed, view.title) = (elapsed, story.title());
        panel.show(&view).map_err(|source| BenchError::Io { what: "drawing the panel".to_owned(), source })?;
        match act {
            None => {}
            Some(Act::Overheat(device)) => stage.overheat(device)?,
            Some(Act::Kill) => stage.kill(),
            Some(Act::Restart) => stage.restart()?,
            Some(Act::End) => break,
            Some(Act::Fail(why)) => return Err(BenchError::Program(why.to_owned())),
        }
    }
    let ending = stage.close(STOP_MAX).await?;
    (view.raised, view.cleared) = (ending.raised, ending.cleared);
    let differences = proof::check(&ending.ledgers, &ending.tail)?;
    if !differences.is_clean() {
        return Err(BenchError::Program(format!("the log and the devices differ:\n{}", proof::told(&differences))));
    }
    if view.raised < OVERHEATED {
        return Err(BenchError::Program(format!(
            "{OVERHEATED} devices overheated, {} alarms are in the log",
            view.raised
        )));
    }
    let acked = ending.ledgers.iter().map(|(_, ledger)| ledger.acked_count()).sum();
    summary(&view, acked, differences.found, differences.repeated);
    Ok(())
}

fn summary(view: &View, acked: u64, found: u64, repeated: u64) {
    println!(
        "\nThe node was killed once. {} readings were acknowledged to {} devices and all of them are in the log,\n\
         in order; it holds {} readings{}.\n\
         {} alarms were raised and {} cleared; {} commands came, {}.",
        grouped(acked),
        view.devices,
        grouped(found),
        match repeated {
            0 => ", each once".to_owned(),
            _ => format!(", {repeated} of them twice, as they were sent again after the kill"),
        },
        view.raised,
        view.cleared,
        view.commands,
        panel::latency(view),
    );
}
