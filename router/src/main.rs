//! The one binary: what was typed becomes what the node does.

fn main() -> std::process::ExitCode {
    edgeway::cli::main()
}
