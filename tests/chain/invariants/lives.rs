//! A life is ended by what upstream has only where its store was set back.

use super::Checked;
use crate::chain::history::History;

pub fn check(history: &History) -> Checked {
    match history.ended.iter().find(|(_, was_set_back)| !was_set_back) {
        Some((origin, _)) => Err(format!("life {origin} was ended, and its store was as it had been")),
        None => Ok(()),
    }
}
