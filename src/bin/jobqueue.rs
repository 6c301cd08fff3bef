//! The worker program: takes jobs from the queue and runs them.

use std::process::ExitCode;

use dm_jobqueue::program;
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    program::jobqueue(program::register)
}
