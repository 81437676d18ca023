//! An urgent command is never sent later than one that is not and that waited with it for the same session.

use super::Checked;
use crate::simulation::history::{Fact, History};

pub fn check(history: &History) -> Checked {
    for (at, fact) in &history.facts {
        if let Fact::Offered { id, overtook: Some(urgent), .. } | Fact::Written { id, overtook: Some(urgent), .. } =
            fact
        {
            let stories = [history.story(*id), history.story(*urgent)].concat();
            return Err(format!("at {at} {id} overtook {urgent}: {fact:?}\n{stories}"));
        }
    }
    Ok(())
}
