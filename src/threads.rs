//! Threads and runtimes that the programs cannot do without. Where the system gives none,
//! that is an error which says what to do: of the start, and no panic.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Runtime};

thread_local! {
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
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
    spawned.map_err(|error| refused(error.kind(), &error))
}

/// Builds a runtime. Tokio returns some of the errors, and panics with the others.
///
/// # Errors
/// When the system gives no threads or file descriptors for it.
pub(crate) fn runtime(builder: &mut Builder) -> io::Result<Runtime> {
    EXPECTED.set(true);
    let built = catch_unwind(AssertUnwindSafe(|| builder.build()));
    EXPECTED.set(false);
    match built {
        Ok(Ok(runtime)) => Ok(runtime),
        Ok(Err(error)) => Err(refused(error.kind(), &error)),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(refused(
                io::ErrorKind::Other,
                &said.unwrap_or("no reason given"),
            ))
        }
    }
}

/// Whether this thread panics within [`runtime`], which turns that into an error: there is
/// nothing to say about it.
pub(crate) fn panic_is_expected() -> bool {
    EXPECTED.get()
}

fn refused(kind: io::ErrorKind, reason: &dyn std::fmt::Display) -> io::Error {
    let reason = format!(
        "cannot start a thread: {reason}; raise the limit on processes (ulimit -u, pids.max), on \
         open files (ulimit -n) or on memory (ulimit -v)"
    );
    io::Error::new(kind, reason)
}
