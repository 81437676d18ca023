//! Tokens that let others in, as they are printed.

use std::io::Write;

use serde::Serialize;

use super::Failure;
use super::out::Out;
use super::when;

/// What a token is for.
pub struct Serves<'a> {
    /// Whom it lets in, once.
    pub whom: &'a str,
    /// Until when, milliseconds since 1970.
    pub until_ms: i64,
    /// What is typed with it.
    pub by: &'a str,
}

/// Prints a token alone, so that a script can take it; what it is for goes to standard error. `said` is what the node said of it.
///
/// # Errors
/// When the output is closed.
pub fn print(said: &impl Serialize, token: &str, serves: Serves<'_>, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let Serves { whom, until_ms, by } = serves;
    out.remark(&format!("serves one {whom}, until {}: {by}", when::show_ms(until_ms)));
    out.done(said, token)
}
