//! The programs of this package, `server`, `jobqueue` and `jobctl`, and what handlers of `jobqueue`
//! print with.
//!
//! A program with job types of its own that is otherwise like `jobqueue` has this `main`. Its
//! `Cargo.toml` has the library with its default features:
//!
//! ```no_run
//! use dm_jobqueue::{Context, JobError, Mux, program};
//! use program::{LineWriter, Written};
//!
//! fn main() -> std::process::ExitCode {
//!     program::jobqueue(|mux: &mut Mux, out: &LineWriter| {
//!         program::register(mux, out);
//!         let out = out.clone();
//!         mux.handle("hello", move |name: String, _: Context| {
//!             // A newline in the name would be a second line, so it is written as \n.
//!             let written: Written = out.write(format!("hello {}\n", name.escape_debug()));
//!             async { Ok::<_, JobError>(written) }
//!         });
//!     })
//! }
//! ```
//!
//! The job is done when its line has gone out: a [`Written`] is a
//! [`Completion`](crate::Completion).

mod jobctl;
mod jobqueue;
mod server;
mod start;

pub use self::jobctl::jobctl;
pub use self::jobqueue::jobqueue;
pub use self::server::server;
pub use crate::service::jobqueue::processor::register;
pub use crate::service::line_writer::{LineWriter, WriteError, Written};
pub use crate::usecase::jobqueue::delay_print::JOB_TYPE_DELAY_PRINT;

/// What the tests and benches of this package need of its inside. It may change at any time.
#[doc(hidden)]
pub mod inside {
    use std::error::Error;

    use tokio_util::sync::CancellationToken;

    use super::{LineWriter, jobqueue};
    use crate::config::{InvalidSetting, RedisConfig};
    use crate::service::jobqueue::mux::Mux;
    use crate::service::jobqueue::server::Exit;

    pub use crate::api::{listen, serve};
    pub use crate::config::{Config, ConfigError};
    pub use crate::service::jobqueue::constants::GROUP;
    pub use crate::service::jobqueue::inspector::{
        Acted, Action, Extent, Filter, Inspector, JobView, LastMinute, Looking, Page, Quantiles,
        State, Stats, Swept, Totals, WorkerView,
    };
    pub use crate::service::jobqueue::{Class, Error as RedisError, Keys};
    pub use crate::telemetry::{flush, init, refuse_to_start};

    /// The program `jobqueue` without its arguments, in the runtime of the caller.
    ///
    /// # Errors
    /// As the program has them.
    pub async fn run_jobqueue(
        add_handlers: impl FnOnce(&mut Mux, &LineWriter),
    ) -> Result<Exit, Box<dyn Error>> {
        jobqueue::run(add_handlers).await
    }

    /// The runtime of the program `jobqueue`.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn jobqueue_runtime() -> std::io::Result<tokio::runtime::Runtime> {
        crate::threads::runtime(&mut jobqueue::runtime_builder())
    }

    /// An inspector of the queue named `queue`, which stays connected as long as the caller's runtime lives.
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub fn inspector(redis: &RedisConfig, queue: &str) -> Result<Inspector, InvalidSetting> {
        let (inspector, connector) = Inspector::new(redis, queue)?;
        tokio::spawn(async move { connector.probe(CancellationToken::new()).await });
        Ok(inspector)
    }
}
