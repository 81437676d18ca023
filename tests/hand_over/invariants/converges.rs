//! In good weather everything comes to its end, at every node.

use super::Checked;
use crate::hand_over::history::{Fact, History};

pub fn check(history: &History) -> Checked {
    for (_, fact) in &history.facts {
        if let Fact::Left { node, count } = fact
            && *count > 0
        {
            return Err(format!("{count} commands have not ended at {node}"));
        }
    }
    Ok(())
}
