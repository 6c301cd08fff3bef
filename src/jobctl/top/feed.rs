//! Asks Redis how the queue is, once a second, and goes on when Redis was away.

use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::super::failure::Failure;
use super::super::way::Way;
use crate::service::jobqueue::inspector::{Error, Inspector, JobView, State, Stats, WorkerView};

/// How often Redis is asked.
const PERIOD: Duration = Duration::from_secs(1);
/// How many jobs of a list can be scrolled through.
const JOBS: usize = 100;
/// How many jobs of a worker are named.
const JOBS_OF_WORKER: usize = 3;

/// The queue at one moment.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// By Redis' clock.
    pub(super) now_ms: u64,
    pub(super) stats: Stats,
    pub(super) workers: Vec<WorkerView>,
    pub(super) running: Vec<JobView>,
    pub(super) dead: Vec<JobView>,
}

/// What there is to show.
#[derive(Debug)]
pub(super) enum News {
    Seen(Box<Snapshot>),
    /// Redis cannot be used, and why.
    Away(String),
}

/// Tells news until the end of `orders`, and pauses the queue or lets it go on as they say.
pub(super) async fn run(
    inspector: &mut Inspector,
    way: &Way,
    tell: UnboundedSender<News>,
    mut orders: UnboundedReceiver<bool>,
) -> Result<(), Failure> {
    loop {
        let news = news(way.call(look(inspector)).await)?;
        if tell.send(news.unwrap_or_else(News::Away)).is_err() {
            return Ok(());
        }
        tokio::select! {
            rested = way.rest(PERIOD) => rested?,
            order = orders.recv() => {
                let Some(paused) = order else { return Ok(()) };
                let set = way.call(inspector.set_paused(paused)).await;
                if let Err(away) = words(set)? {
                    // It is shown for a while before the next look.
                    drop(tell.send(News::Away(away)));
                    way.rest(PERIOD).await?;
                }
            }
        }
    }
}

fn news(looked: Result<Snapshot, Failure>) -> Result<Result<News, String>, Failure> {
    Ok(words(looked)?.map(|snapshot| News::Seen(Box::new(snapshot))))
}

/// Why Redis did not answer. Any other failure is the end.
fn words<T>(result: Result<T, Failure>) -> Result<Result<T, String>, Failure> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Failure::Redis(away)) => Ok(Err(away)),
        Err(failure) => Err(failure),
    }
}

async fn look(inspector: &mut Inspector) -> Result<Snapshot, Error> {
    Ok(Snapshot {
        now_ms: inspector.now_ms().await?,
        stats: inspector.stats().await?,
        workers: inspector.workers(JOBS_OF_WORKER).await?,
        running: inspector.list(State::Running, None, JOBS).await?.jobs,
        dead: inspector.list(State::Dead, None, JOBS).await?.jobs,
    })
}
