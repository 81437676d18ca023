//! `cargo xtask build-plugins`, and what other tasks there are.

mod bench;
mod cargo;
mod components;
mod demo;
mod error;
mod test;
mod wasm;
mod wasm_debian;

use std::process::ExitCode;

use error::TaskError;

const USAGE: &str = "\
usage: cargo xtask TASK

  build-plugins   builds the plugins as components into target/plugins
  test [ARGS]     builds everything and runs all tests; ARGS go to `cargo test`
  demo            shows devices, plugin and commands at work, kills the node, and proves that nothing was lost
  demo --site     shows three nodes that keep each other's logs, kills one, and proves that all have everything once
  bench           measures the node, and mosquitto beside it, in one table
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let task = args.next();
    let done = match task.as_deref() {
        Some("build-plugins") => components::build_plugins(&components::root()),
        Some("test") => test::run(&components::root(), &args.collect::<Vec<_>>()),
        Some("demo") => match args.next().as_deref() {
            None => demo::run(&components::root()),
            Some("--site") => demo::run_site(&components::root()),
            Some(_) => {
                eprint!("{USAGE}");
                return ExitCode::from(2);
            }
        },
        Some("bench") => bench::run(&components::root(), args).map_err(TaskError::from),
        Some("help" | "--help" | "-h") => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
