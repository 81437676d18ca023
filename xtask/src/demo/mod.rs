//! `cargo xtask demo`: the main job in half a minute, with a proof at its end.

mod fleets;
mod panel;
mod proof;
mod screen;
mod site;
mod stage;
mod story;

use std::path::Path;
use std::time::{Duration, Instant};

use crate::bench::BenchError;
use crate::components;
use crate::error::TaskError;

use panel::View;
use proof::Proof;
use screen::Screen;
use stage::{Ending, Stage};
use story::{Act, Story};

/// How often the story is asked and the panel drawn.
const FRAME: Duration = Duration::from_millis(100);
/// How long the devices may take to have their last readings acknowledged.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Devices that overheat in the story.
const OVERHEATED: u64 = 2;

/// Builds plugins and node, tells the story, and proves that no reading was lost
/// and none stored twice.
///
/// # Errors
/// When something cannot be built or started, does not happen in time, or when
/// the proof fails.
pub fn run(root: &Path) -> Result<(), TaskError> {
    components::build_plugins(root)?;
    Ok(runtime()?.block_on(told(root))?)
}

/// The same of three gateways that are one site, one of which is killed.
///
/// # Errors
/// As [`run`].
pub fn run_site(root: &Path) -> Result<(), TaskError> {
    Ok(runtime()?.block_on(site::told(root))?)
}

/// What the devices run on.
fn runtime() -> Result<tokio::runtime::Runtime, TaskError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.map_err(|source| TaskError::Start { command: "the devices".to_owned(), source })
}

async fn told(root: &Path) -> Result<(), BenchError> {
    let mut stage = Stage::set(root)?;
    let mut story = Story::new();
    let mut screen = Screen::new();
    let started = Instant::now();
    let mut view;
    loop {
        tokio::time::sleep(FRAME).await;
        let elapsed = started.elapsed();
        let seen = stage.seen(story.device())?;
        let act = story.next(elapsed, &seen);
        view = stage.view(story.device())?;
        (view.elapsed, view.title) = (elapsed, story.title());
        view.show(&mut screen).map_err(|source| BenchError::Io { what: "drawing the panel".to_owned(), source })?;
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
    let proofs = proven(&ending)?;
    summary(&view, &proofs);
    Ok(())
}

/// Holds what the devices and the plugin did against the log.
fn proven(ending: &Ending) -> Result<Vec<Proof>, BenchError> {
    let proofs = proof::check(&ending.fleets, &ending.tail)?;
    let faulty = proofs.iter().map(|proof| (proof.by.name(), proof.faults())).filter(|(_, faults)| !faults.is_empty());
    let faults: Vec<String> = faulty.map(|(by, faults)| format!("by {by}:\n{faults}")).collect();
    if !faults.is_empty() {
        return Err(BenchError::Program(format!("the log and the devices differ\n{}", faults.join("\n"))));
    }
    if ending.raised < OVERHEATED {
        let raised = ending.raised;
        return Err(BenchError::Program(format!("{OVERHEATED} devices overheated, {raised} alarms are in the log")));
    }
    Ok(proofs)
}

fn summary(view: &View, proofs: &[Proof]) {
    println!(
        "\nThe node was killed once. What the devices know, against what its log holds:\n\n{}\n\
         Nothing was lost, nothing is there twice, and each device's readings are in order.\n\
         {} alarms were raised and {} cleared; {} commands came, {}.",
        proof::table(proofs),
        view.raised,
        view.cleared,
        view.commands,
        panel::latency(view),
    );
}
