//! The `edgeway` command as a person uses it.

use std::process::{Command, Output, Stdio};

use super::binary;

/// What a command wrote and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// The same, where it must have succeeded.
    pub fn ok(self) -> Ran {
        assert_eq!(self.code, 0, "failed:\n{}{}", self.out, self.err);
        self
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// `edgeway ARGS`, with no node in mind.
pub fn edgeway(args: &[&str]) -> Ran {
    let mut command = Command::new(binary::edgeway());
    command.args(args).stdin(Stdio::null());
    command.output().unwrap().into()
}
