//! In good weather everything comes to its end within its times.

use super::Checked;
use crate::simulation::history::{Fact, History};

pub fn check(history: &History) -> Checked {
    match history.facts.last() {
        Some((_, Fact::Left(0))) => Ok(()),
        other => Err(format!("not everything has ended: {other:?}")),
    }
}
