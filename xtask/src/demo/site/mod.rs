//! `cargo xtask demo --site`: three gateways that keep each other's logs, one of which dies, and a headquarters that they feed,
//! whose link is cut; with a proof at the end.

mod gateways;
mod headquarters;
mod panel;
mod proof;
mod stage;
mod story;

use std::path::Path;
use std::time::{Duration, Instant};

use crate::bench::BenchError;
use crate::bench::site::view::View;
use crate::demo::panel::grouped;
use crate::demo::screen::Screen;

use stage::Stage;
use story::{Act, Story};

/// How often the story is asked and the panel drawn.
const FRAME: Duration = Duration::from_millis(200);
/// How long the devices may take to have their last readings acknowledged.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Founds the site, tells the story, and proves that each acknowledged reading is at every node once.
pub async fn told(root: &Path) -> Result<(), BenchError> {
    let mut stage = Stage::set(root)?;
    let mut story = Story::new();
    let mut screen = Screen::new();
    let started = Instant::now();
    loop {
        tokio::time::sleep(FRAME).await;
        let elapsed = started.elapsed();
        let act = story.next(elapsed, &stage.seen()?);
        let frame = stage.frame(elapsed, story.title());
        frame.show(&mut screen).map_err(|source| BenchError::Io { what: "drawing the panel".to_owned(), source })?;
        match act {
            None => {}
            Some(Act::Kill) => stage.kill(),
            Some(Act::Tell) => {
                println!("\n$ edgeway node status --data n1\n{}", stage.status()?);
                screen = Screen::new();
            }
            Some(Act::Restart) => stage.restart()?,
            Some(Act::Grow) => stage.grow().await?,
            Some(Act::Cut) => stage.cut(true),
            Some(Act::Mend) => stage.cut(false),
            Some(Act::TellLink) => {
                println!("\n$ edgeway link show hq --data n1\n{}", stage.link()?);
                screen = Screen::new();
            }
            Some(Act::End) => break,
            Some(Act::Fail(why)) => return Err(BenchError::Program(why.to_owned())),
        }
    }
    let ending = stage.close(STOP_MAX).await?;
    let proof = proof::check(&ending.accounts, &ending.tails)?;
    summary(&proof);
    Ok(())
}

fn summary(proof: &proof::Proof) {
    println!(
        "\n{} was killed once, under load. What the devices of each gateway know, against what each log holds:\n\n{}\n\
         Every acknowledged reading is in every log exactly once, and each device's readings are in order.\n\
         The logs of the three and of the headquarters, which was cut off for a while, are equal, line by line: {} lines.",
        stage::VICTIM,
        proof::table(proof),
        grouped(proof.lines as u64),
    );
}

/// How many events a node's log has that each of the others lacks, by name.
fn lacking(view: &View, others: &[String]) -> Vec<(String, u64)> {
    let lag = |name: &String| (name.clone(), view.follower(name).map_or(0, |follower| follower.lag_events));
    others.iter().map(lag).collect()
}
