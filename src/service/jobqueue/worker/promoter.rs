//! Moves jobs to the stream when they are due.
//!
//! Every worker looks once a second, so no leader is needed and no death delays a job
//! by more than that. To be exact without a herd, a worker also arms an alarm for a
//! job that its own park or retry made the earliest, and after a promotion of its own
//! for the next one.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::{sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::trail;
use crate::service::jobqueue::redis::broker::Broker;
use crate::service::jobqueue::redis::connector::OPERATOR_RETRY;
use crate::service::jobqueue::redis::error::Class;
use crate::service::jobqueue::redis::link::Link;

/// How often every worker looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Tokio's timers are due in whole milliseconds, and may be noticed one later.
const TIMER_GRAIN: Duration = Duration::from_millis(2);
/// How many jobs one step moves: Redis does it in one go.
const BATCH: usize = 100;

/// The time of the earliest job that this worker knows to be the earliest of all.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    at: Mutex<Option<Instant>>,
    changed: Notify,
}

impl Alarm {
    /// A job that is earlier than all others is due in `due_in`.
    pub(crate) fn set(&self, due_in: Duration) {
        let new = Instant::now() + due_in;
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        if at.is_none_or(|at| new < at) {
            *at = Some(new);
            self.changed.notify_one();
        }
    }

    fn get(&self) -> Option<Instant> {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the alarm when it has gone off.
    fn take_due(&self, now: Instant) -> bool {
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        let due = at.is_some_and(|at| at <= now);
        if due {
            *at = None;
        }
        due
    }
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Promoter {
    pub(crate) broker: Arc<Broker>,
    pub(crate) alarm: Arc<Alarm>,
    pub(crate) link: Link,
    pub(crate) stop: CancellationToken,
}

impl Promoter {
    /// Promotes until `stop`.
    pub(crate) async fn run(mut self) {
        let mut next_look = Instant::now();
        while !self.stop.is_cancelled() {
            let alarm = self.alarm.get().filter(|at| *at < next_look);
            tokio::select! {
                () = sleep_until(next_look.into()), if alarm.is_none() => {}
                () = sleep_exactly_until(alarm.unwrap_or(next_look)), if alarm.is_some() => {}
                () = self.alarm.changed.notified() => continue,
                () = self.stop.cancelled() => return,
            }
            let now = Instant::now();
            if next_look <= now {
                next_look = now + INTERVAL;
            }
            let alarmed = self.alarm.take_due(now);
            tokio::select! {
                _ = self.link.connect() => {}
                () = self.stop.cancelled() => return,
            }
            if !self.promote(alarmed).await {
                // As soon as the link is there again: jobs fell due meanwhile.
                next_look = Instant::now();
            }
        }
    }

    /// Promotes all that is due. The alarm is armed again by the rules that keep two
    /// workers from waking for one job: after a promotion of our own, or when it went
    /// off before Redis' clock said so. False when Redis is away.
    async fn promote(&mut self, mut mine: bool) -> bool {
        while !self.stop.is_cancelled() {
            let tells = trail::is_on();
            match self.broker.promote(&mut self.link, BATCH, tells).await {
                Ok(promoted) => {
                    promoted.told.iter().for_each(trail::tell_promoted);
                    mine |= promoted.moved > 0;
                    match promoted.due_in {
                        Some(due_in) if due_in.is_zero() && promoted.moved > 0 => {}
                        Some(due_in) if mine => {
                            self.alarm.set(due_in);
                            return true;
                        }
                        _ => return true,
                    }
                }
                Err(error) if error.class == Class::Operator => {
                    tokio::select! {
                        () = tokio::time::sleep(OPERATOR_RETRY) => {}
                        () = self.stop.cancelled() => {}
                    }
                    return true;
                }
                Err(_) => return false,
            }
        }
        true
    }
}

/// Sleeps more exactly than tokio, whose timers go off up to a millisecond late: their last
/// bit is slept on a thread for blocking calls, if the system gives one. Cancel safe.
async fn sleep_exactly_until(at: Instant) {
    sleep_until((at - TIMER_GRAIN).into()).await;
    let rest = at.saturating_duration_since(Instant::now());
    if !rest.is_zero() {
        let asleep = tokio::task::spawn_blocking(move || thread::sleep(rest));
        let abort = asleep.abort_handle();
        // Without a thread it would sleep for ever, and delayed jobs with it.
        if timeout_at((at + TIMER_GRAIN).into(), asleep).await.is_err() {
            abort.abort();
        }
    }
}
