//! A node that is back gives no device what a survivor has taken up before, where it can know that.

use super::Checked;
use crate::hand_over::history::{Fact, History};

pub fn check(history: &History) -> Checked {
    for (at, fact) in &history.facts {
        if let Fact::Offered { node, id, given: true } = fact {
            return Err(format!("{at}: {node} offers {id}, which another has taken up\n{}", history.story(*id)));
        }
    }
    Ok(())
}
