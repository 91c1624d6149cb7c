//! The `tidegate` program; everything it does is in the library.

use std::process::ExitCode;

use mimalloc::MiMalloc;

// Request threads, shards and the flush allocate and free large buffers in turn; glibc's arenas keep
// the most that each thread ever had, which is memory beyond every bound in the settings.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    tidegate::cli::run()
}
