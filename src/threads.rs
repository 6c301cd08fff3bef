//! The threads, runtimes, files and memory that the programs need. When the system refuses one of them
//! at the start, that is an error that says what to do, and not a panic.

use std::cell::Cell;
use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::config::plain;

#[cfg(feature = "programs")]
/// An idle worker has 25 files open. With fewer than this it would start, and run out of files as soon
/// as it has work.
const MIN_FILES: u64 = 32;
#[cfg(feature = "programs")]
/// This is address space rather than memory: the stacks of the threads, and what the allocator reserves
/// for each of them. With less, an allocation fails now and then.
const SPARE_MEMORY: usize = 256 * 1024 * 1024;

/// The variable that sets how many threads a runtime of tokio has.
const WORKER_THREADS: &str = "TOKIO_WORKER_THREADS";

thread_local! {
    /// Whether this thread is building a runtime.
    static BUILDS_RUNTIME: Cell<bool> = const { Cell::new(false) };
}

#[cfg(feature = "programs")]
/// Checks that files and memory will not run out later. A failed allocation would end the process, and
/// without a file Redis could not be connected.
///
/// # Errors
/// When there are too few files or too little memory.
pub(crate) fn check_limits() -> io::Result<()> {
    // The limit is raised as far as possible. If the system does not name a limit, there is none.
    let files = rlimit::increase_nofile_limit(u64::MAX)
        .or_else(|_| rlimit::Resource::NOFILE.get_soft())
        .unwrap_or(u64::MAX);
    if files < MIN_FILES {
        return Err(io::Error::other(format!(
            "only {files} files may be open, and at least {MIN_FILES} are needed; raise the limit \
             on open files (ulimit -n)"
        )));
    }
    let spare = Vec::<u8>::new().try_reserve_exact(SPARE_MEMORY);
    spare.map_err(|_| {
        let mib = SPARE_MEMORY / 1024 / 1024;
        io::Error::other(format!(
            "the system does not give {mib} MiB of memory; raise the limit on it (ulimit -v)"
        ))
    })
}

/// Starts a thread.
///
/// # Errors
/// When the system gives none.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map_err(|error| io::Error::new(error.kind(), refusal(&error.to_string())))
}

/// Builds a runtime. Its first thread for blocking calls (the lookup of a host name is one) starts
/// here and stays. Otherwise tokio would start that thread later, and panic in the middle of the work
/// if the system gives none at that moment.
///
/// If the system gives some threads here but not all, tokio panics, and while it unwinds it waits for
/// the threads for ever. So the panic hook asks [`refused_runtime`], and ends the process.
///
/// It has as many threads as `TOKIO_WORKER_THREADS` says. When that is unset, it has as many as
/// `builder` says.
///
/// # Errors
/// When the system gives no files for it, or `TOKIO_WORKER_THREADS` is no number of threads.
pub(crate) fn runtime(builder: &mut Builder) -> io::Result<Runtime> {
    if let Some(threads) = worker_threads()? {
        builder.worker_threads(threads);
    }
    BUILDS_RUNTIME.set(true);
    let built = builder
        .enable_all()
        .thread_keep_alive(Duration::MAX)
        .build();
    if let Ok(runtime) = &built {
        runtime.spawn_blocking(|| ());
    }
    BUILDS_RUNTIME.set(false);
    built.map_err(|error| io::Error::new(error.kind(), refusal(&error.to_string())))
}

/// Reads the variable before tokio does. tokio would panic and show the value, which may be a secret
/// in the wrong place.
fn worker_threads() -> io::Result<Option<usize>> {
    let Some(value) = std::env::var_os(WORKER_THREADS) else {
        return Ok(None);
    };
    let value = value.to_string_lossy();
    match value.parse::<usize>() {
        Ok(threads @ 1..) => Ok(Some(threads)),
        _ => Err(io::Error::other(format!(
            "{WORKER_THREADS}: found {}, expected a whole number from 1; correct or unset it",
            plain::shown(&value)
        ))),
    }
}

/// The last message of the process, if this thread panics with `panic` because a runtime cannot be
/// built.
pub(crate) fn refused_runtime(panic: &str) -> Option<String> {
    BUILDS_RUNTIME.get().then(|| refusal(panic))
}

fn refusal(reason: &str) -> String {
    format!(
        "cannot start a thread: {reason}; raise the limit on processes (ulimit -u, pids.max), on \
         memory (ulimit -v) or on open files (ulimit -n)"
    )
}
