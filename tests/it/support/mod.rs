//! The parts that all tests use: a Redis for each test, the two programs as child processes, a
//! client for the API, and waiting that always has a deadline. This folder can start, break and
//! look at things. The folders of the tests say what must be true.

mod app;
mod backlog;
mod clock;
mod dead_letters;
mod harness;
mod jobs;
mod leases;
mod load;
mod output;
mod pipe;
mod port;
mod process;
mod process_builder;
mod raw_http;
mod recovery;
mod redis;
mod slow_line;
mod terminal;
mod wire;
mod worker_program;

use std::fmt::Display;
use std::future::Future;
use std::panic::Location;
use std::time::Duration;

pub(crate) use redis_server_wrapper::fault_proxy::{CloseKind, Delay, Direction, FaultProxy};

pub(crate) use self::app::TestApp;
pub(crate) use self::backlog::{
    Backlog, CANCEL, DEAD, DONE, Entry, GROUP, LEASES, Pending, SCHEDULED, STATE, STREAM, TOTALS,
    WORKERS, netstrings,
};
pub(crate) use self::clock::Clock;
pub(crate) use self::dead_letters::{Letter, hello, letter_of, text};
pub(crate) use self::jobs::{LEASE, test_job};
pub(crate) use self::leases::{LONG_IDLE, stays};
pub(crate) use self::load::Load;
pub(crate) use self::pipe::SmallPipe;
pub(crate) use self::port::ReservedPort;
pub(crate) use self::process::{Process, http_client, listening_addr, process_exists};
pub(crate) use self::process_builder::ProcessBuilder;
pub(crate) use self::raw_http::{REGISTER, RawAnswer, RawClient, exchange};
pub(crate) use self::recovery::LONG_LEASE;
pub(crate) use self::redis::Redis;
pub(crate) use self::slow_line::{MBIT, Rate, SlowLine};
pub(crate) use self::terminal::Terminal;
pub(crate) use self::wire::Wire;
pub(crate) use self::worker_program::NO_DELAY_PRINT;

/// How long an event may take on a busy machine when it should happen at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The time between two looks at a polled condition.
const POLL: Duration = Duration::from_millis(5);

/// Polls `condition` until it returns a value, and returns that value.
///
/// # Panics
///
/// When `deadline` has passed. The message has `what` and the caller's line.
#[track_caller]
pub(crate) fn eventually<T>(
    what: impl Display,
    deadline: Duration,
    condition: impl AsyncFnMut() -> Option<T>,
) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        let value = within(deadline, condition).await;
        value.unwrap_or_else(|| panic!("not within {deadline:?}: {what} (waited for at {caller})"))
    }
}

/// Polls `condition` until it returns a value or `deadline` has passed. A look that hangs also ends
/// at the deadline.
pub(crate) async fn within<T>(
    deadline: Duration,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> Option<T> {
    let polling = async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(deadline, polling).await.ok()
}

/// Cuts every connection through the proxy, clears its faults, and accepts new connections. The
/// fault `reset_peer` would also cut all later connections, because an accepted connection inherits
/// the signal.
pub(crate) async fn cut(proxy: &FaultProxy) {
    proxy.disable().await.unwrap();
    proxy.reset();
    // An outgoing connection of another program may have the port for a moment.
    eventually("the proxy has its port again", PATIENCE, async || {
        proxy.enable().await.ok()
    })
    .await;
}
