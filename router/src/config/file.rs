//! Reads the file: TOML to [`Config`], and a mistake to its file, line, column and what was expected.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::{Config, Problem};

/// Largest configuration file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why there is no configuration.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file says something that cannot be.
    Wrong {
        /// The file.
        path: PathBuf,
        /// Line and column, from 1.
        at: (usize, usize),
        /// The line's text.
        line: String,
        /// What was found and what was expected.
        message: String,
    },
    /// The defaults and the command line together say something that cannot be.
    Flags(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, reason } => {
                write!(f, "the configuration {} cannot be read: {reason}", path.display())
            }
            Self::Wrong { path, at: (line, column), line: text, message } => {
                write!(f, "{}:{line}:{column}: {message}", path.display())?;
                let indent = " ".repeat(column.saturating_sub(1));
                write!(f, "\n    {text}\n    {indent}^")
            }
            Self::Flags(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for ConfigError {}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self::Flags(describe(&problem))
    }
}

/// Reads and checks a configuration file.
///
/// # Errors
/// Where it cannot be read or says something that cannot be.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let unreadable = |reason: String| ConfigError::Read { path: path.to_owned(), reason };
    let length = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if length > FILE_BYTES_MAX {
        return Err(unreadable(format!("it has {length} bytes, at most {FILE_BYTES_MAX} are taken")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    parse(&text, path)
}

/// Reads and checks a configuration's text; `path` is for the errors.
///
/// # Errors
/// Where it says something that cannot be.
pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let wrong = |span: Option<Range<usize>>, message: String| {
        let (at, line) = locate(text, span.map_or(0, |span| span.start));
        ConfigError::Wrong { path: path.to_owned(), at, line, message }
    };
    let config: Config =
        toml::from_str(text).map_err(|error| wrong(error.span(), error.message().replace('\n', ", ")))?;
    config.check().map_err(|problem| wrong(span_of(text, problem.path), describe(&problem)))?;
    Ok(config)
}

fn describe(problem: &Problem) -> String {
    let [table, key] = problem.path;
    format!("[{table}] {key} is {}, expected {}", problem.found, problem.expected)
}

/// Where a key's value stands in the text.
fn span_of(text: &str, [path, key]: [&str; 2]) -> Option<Range<usize>> {
    let document = DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    for name in path.split('.') {
        table = table.get(name)?.get_ref().as_table()?;
    }
    table.get(key).map(toml::Spanned::span)
}

/// Line and column (both from 1) of a byte position, and the line's text.
fn locate(text: &str, position: usize) -> ((usize, usize), String) {
    let before = text.get(..position).unwrap_or(text);
    let line = before.matches('\n').count();
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
    let text = text.lines().nth(line).unwrap_or_default();
    ((line + 1, column + 1), text.to_owned())
}
