//! What was typed after `cargo xtask bench`.

use std::path::PathBuf;

use crate::bench::error::BenchError;
use crate::bench::groups::{GROUPS, LONG, chosen};

/// Repetitions of each timed window.
pub const REPETITIONS: usize = 3;

/// The flags of `cargo xtask bench`.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// One group of figures alone.
    pub only: Option<String>,
    /// The length of a timed window.
    pub seconds: u64,
    /// Where the figures are written as JSON.
    pub json: Option<PathBuf>,
    /// A node's binary to measure, instead of a release build of this tree.
    pub binary: Option<PathBuf>,
}

impl Options {
    /// Reads the flags.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, BenchError> {
        let mut options = Options { only: None, seconds: 5, json: None, binary: None };
        while let Some(flag) = args.next() {
            let value = args.next().ok_or_else(|| usage(&format!("`{flag}` needs a value")))?;
            match flag.as_str() {
                "--only" if !chosen(Some(&value)).is_empty() => options.only = Some(value),
                "--only" => return Err(usage(&format!("there is no group `{value}`"))),
                "--seconds" => {
                    let seconds = value.parse().ok().filter(|seconds| (1..=600).contains(seconds));
                    options.seconds = seconds.ok_or_else(|| usage("`--seconds` is from 1 to 600"))?;
                }
                "--json" => options.json = Some(PathBuf::from(value)),
                "--binary" => options.binary = Some(PathBuf::from(value)),
                _ => return Err(usage(&format!("unknown flag `{flag}`"))),
            }
        }
        Ok(options)
    }
}

fn usage(problem: &str) -> BenchError {
    let mut text = format!(
        "{problem}\nusage: cargo xtask bench [--only NAME] [--seconds N] [--json FILE] [--binary FILE]\n\nNAME is"
    );
    for group in GROUPS {
        text.push_str(&format!("\n  {:18} {}", group.name, group.about));
    }
    text.push_str("\nor one that is not part of a run of everything:");
    for group in LONG {
        text.push_str(&format!("\n  {:18} {}", group.name, group.about));
    }
    BenchError::Usage(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_measured_where_it_is_named() {
        let names = |only| chosen(only).iter().map(|group| group.name).collect::<Vec<_>>();
        assert_eq!(names(Some("link-flap")), ["link-flap"]);
        assert!(!names(None).contains(&"link-flap"));
        assert_eq!(names(None).len(), GROUPS.len());
        assert!(names(Some("nothing")).is_empty());
    }

    #[test]
    fn flags_are_read_or_refused() {
        let parse = |line: &str| Options::parse(line.split_whitespace().map(str::to_owned));
        let all = parse("--only ingest --seconds 2 --json out.json --binary e").expect("legal");
        let expected = Options {
            only: Some("ingest".into()),
            seconds: 2,
            json: Some("out.json".into()),
            binary: Some("e".into()),
        };
        assert_eq!(all, expected);
        for wrong in ["--only nothing", "--seconds 0", "--seconds x", "--json", "--fast 1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
