//! The `edgeway` command as a person uses it.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::binary;
use super::node::Node;

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

    /// Standard output as one JSON value.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e} in:\n{}", self.out))
    }

    /// Standard output as JSON lines.
    pub fn lines(&self) -> Vec<Value> {
        let lines = self.out.lines();
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}"))).collect()
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

impl Node {
    /// `edgeway ARGS` ready to be started, speaking to this node.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary::edgeway());
        command.args(args).arg("--data").arg(self.data());
        command.stdin(Stdio::null());
        command
    }

    /// `edgeway ARGS` on this node, to its end.
    pub fn cli(&self, args: &[&str]) -> Ran {
        self.command(args).output().unwrap().into()
    }

    /// `edgeway ARGS` with something on standard input.
    pub fn cli_with_input(&self, args: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(args);
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap().into()
    }
}
