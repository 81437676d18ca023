//! What a source was told to be safe is in the log, and has an end.

use super::Checked;
use crate::hand_over::history::{Fact, History};

pub fn check(history: &History) -> Checked {
    let (submissions, outcomes) = (history.submissions(), history.outcomes());
    for (_, fact) in &history.facts {
        if let Fact::Promised(id) = fact
            && !(submissions.contains_key(id) && outcomes.contains_key(id))
        {
            return Err(format!("{id} was promised and is gone\n{}", history.story(*id)));
        }
    }
    Ok(())
}
