//! Rule 2: a life never forks without being recognised, and none ends without a reason.

use std::collections::BTreeMap;

use super::Checked;
use crate::site::history::{Fact, History};

pub fn check(history: &History) -> Checked {
    for (at, fact) in &history.facts {
        if let Fact::Ended { node, origin, why } = fact
            && !history.doubtful.contains(origin)
        {
            return Err(format!("{at}: {node} ended {origin}, as {why}, and it is sound\n{}", history.story()));
        }
        if let Fact::Differs { node, origin, text } = fact
            && !history.doubtful.contains(origin)
            && !history.was_spoilt(*at)
        {
            return Err(format!("{at}: {node} stopped {origin}, as {text}, and it is sound\n{}", history.story()));
        }
    }
    let mut writers = BTreeMap::new();
    for (node, origin) in history.members() {
        if let Some(other) = writers.insert(origin, node) {
            return Err(format!("{node} and {other} both write {origin}\n{}", history.story()));
        }
    }
    Ok(())
}
