//! The one binary: what was typed becomes what the node does.

/// Commands, sessions and batches are many small things that come and go on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    edgeway::cli::main()
}
