//! Rule 8: retention lets nothing go that a follower within bounds still needs.

use super::Checked;
use crate::site::history::{Fact, History};

pub fn check(history: &History) -> Checked {
    for (at, fact) in &history.facts {
        if let Fact::LetGo { node, partition, next, needed, kept, bound } = fact
            && next > needed
            && kept <= bound
        {
            let what =
                format!("{partition} up to {next} go, which is needed from {needed} on; {kept} bytes of {bound}");
            return Err(format!("{at}: {node} let {what}\n{}", history.story()));
        }
    }
    Ok(())
}
