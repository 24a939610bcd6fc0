//! argv -> command -> exit code.

use std::process::ExitCode;

/// musl's own allocator is several times slower.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    onemcp::cli::main()
}
