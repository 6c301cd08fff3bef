//! The operator's program: looks at the queue and steers it.

use std::process::ExitCode;

fn main() -> ExitCode {
    dm_jobqueue::program::jobctl()
}
