//! What becomes of a worker, and of its other jobs, when something panics that a runner calls.

use std::pin::Pin;
use std::task::Poll;

use serde::de::IgnoredAny;
use tokio::time::{sleep, timeout};

use super::*;
use crate::config::WorkerConfig;
use crate::service::jobqueue::worker::held::Admission;
use crate::service::jobqueue::worker::held::tests::delivery;

const PATIENCE: Duration = Duration::from_secs(20);
const JOBS: u64 = 100;

fn runners(
    handler: impl Fn() -> Result<Completion, JobError> + Send + Sync + 'static,
) -> Arc<Runners> {
    let mut mux = Mux::new();
    mux.handle("x", move |_: IgnoredAny, _| std::future::ready(handler()));
    runners_of(mux)
}

fn runners_of(mux: Mux) -> Arc<Runners> {
    let log = Arc::new(JobLog::new());
    let (flags, cutoff) = (Flags::default(), CancellationToken::new());
    Runners::new(&WorkerConfig::default(), mux, log, flags, cutoff).unwrap()
}

/// Panics when it is dropped, as a handler's own panic may carry it.
struct PanicsAgain;

impl Drop for PanicsAgain {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

fn admit(held: &Held, jobs: u64) {
    let admission = Admission {
        ready: (0..jobs).map(delivery).collect(),
        ..Admission::default()
    };
    held.admit(admission, 0, Instant::now());
}

#[tokio::test]
async fn a_promise_that_panics_ends_its_own_job_and_no_other() {
    let broken = || Ok(Completion::Later(Later::new(|_| panic!("on purpose"))));
    let runners = runners(broken);
    let held = runners.held();
    admit(held, JOBS);
    let all_end = async {
        while held.unsettled() < usize::try_from(JOBS).unwrap() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(
        timeout(PATIENCE, all_end).await.is_ok(),
        "{}",
        held.running()
    );
    assert_eq!(held.running(), 0);
    let mut outcomes = held.take_outcomes(usize::MAX).into_iter();
    assert!(outcomes.all(|one| matches!(one.outcome, Outcome::Retry { .. })));
}

#[tokio::test]
async fn a_runner_that_panics_stops_the_worker() {
    let runners = runners(|| std::panic::panic_any(PanicsAgain));
    admit(runners.held(), 1);
    let stopped = timeout(PATIENCE, runners.flags.stop.cancelled()).await;
    assert!(stopped.is_ok() && runners.flags.is_broken());
}

/// Waits for as long as it is not dropped, and panics then.
struct PanicsWhenDropped;

impl Future for PanicsWhenDropped {
    type Output = Result<(), JobError>;

    fn poll(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        Poll::Pending
    }
}

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

#[tokio::test]
async fn a_handler_that_panics_when_its_time_is_over_ends_its_own_job_and_no_other() {
    let mut mux = Mux::new();
    let options = mux.handle("x", |_: IgnoredAny, _| PanicsWhenDropped);
    options.timeout(Duration::from_millis(1));
    let runners = runners_of(mux);
    let held = runners.held();
    admit(held, 2);
    let both_end = async {
        while held.unsettled() < 2 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(timeout(PATIENCE, both_end).await.is_ok());
    assert!(!runners.flags.is_broken());
    let mut outcomes = held.take_outcomes(usize::MAX).into_iter();
    assert!(outcomes.all(|one| matches!(one.outcome, Outcome::Retry { .. })));
}
