//! Standard output: tables for people, JSON for programs; a closed pipe ends the command quietly.

use std::io::{BufWriter, Write};

use serde::Serialize;

use super::table::Table;
use super::{Exit, Failure};

/// Where a command's results go.
pub struct Out<W: Write> {
    to: BufWriter<W>,
    json: bool,
}

impl<W: Write> Out<W> {
    /// Output to `to`; in JSON where that was asked for.
    pub fn new(to: W, json: bool) -> Self {
        Self { to: BufWriter::new(to), json }
    }

    /// Whether JSON was asked for.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Writes one line of text.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.to.write_all(text.as_bytes())?;
        Ok(self.to.write_all(b"\n")?)
    }

    /// Writes bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.to.write_all(bytes)?)
    }

    /// Writes one JSON object as one line.
    pub fn object(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.to, value).map_err(std::io::Error::from)?;
        Ok(self.to.write_all(b"\n")?)
    }

    /// Says what was done: the object in JSON, else the text.
    pub fn done(&mut self, value: &impl Serialize, text: &str) -> Result<(), Failure> {
        if self.json { self.object(value) } else { self.line(&super::table::printable(text)) }
    }

    /// Says on standard error what is known before the result is.
    pub fn aside(&self, value: &impl Serialize, text: &str) {
        match serde_json::to_string(value) {
            Ok(json) if self.json => eprintln!("{json}"),
            _ => eprintln!("{}", super::table::printable(text)),
        }
    }

    /// Says on standard error what people should know besides the result; an empty object in JSON.
    pub fn remark(&self, text: &str) {
        self.aside(&serde_json::json!({}), text);
    }

    /// Ends with what the end of a device command means, all being shown.
    ///
    /// # Errors
    /// Where it means anything but done.
    pub fn ended(&mut self, exit: Exit) -> Result<(), Failure> {
        match exit {
            Exit::Done => Ok(()),
            exit => self.flush().and(Err(Failure::Shown(exit))),
        }
    }

    /// Writes a table, or `empty` where it has no rows.
    pub fn table(&mut self, table: &Table, empty: &str) -> Result<(), Failure> {
        if table.is_empty() {
            return self.line(empty);
        }
        self.raw(table.render().as_bytes())
    }

    /// Hands everything on to the reader.
    pub fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.to.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_no_mistake() {
        let mut out = Out::new(Closed, false);
        let ended = out.line("a").and_then(|()| out.flush());
        assert!(matches!(ended, Err(Failure::PipeClosed)));
        let mut out = Out::new(Closed, true);
        let ended = out.object(&vec![0; 10_000]);
        assert!(matches!(ended, Err(Failure::PipeClosed)));
    }

    #[test]
    fn objects_are_lines() {
        let mut bytes = Vec::new();
        let mut out = Out::new(&mut bytes, true);
        out.object(&serde_json::json!({"a": "x\ny"})).unwrap();
        out.object(&1).unwrap();
        drop(out);
        assert_eq!(bytes, b"{\"a\":\"x\\ny\"}\n1\n");
    }
}
