//! Moves jobs to the stream when they are due.
//!
//! Every worker looks once a second. So no leader is needed, and the death of a worker delays a
//! job by no more than that. Between the looks a worker wakes up exactly when a job is due, by
//! an [`Alarm`]. It sets the alarm only for a job that it knows from its own settling or its own
//! promotion, so that two workers seldom wake up for one job.

use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::{sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::shared::Shared;
use super::trail;
use crate::lock::lock;
use crate::service::jobqueue::redis::{Broker, Class, Link, OPERATOR_RETRY, Promoted};

/// How often every worker looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Tokio's timers are due in whole milliseconds, and may be noticed one later.
const TIMER_GRAIN: Duration = Duration::from_millis(2);
/// How many jobs one step moves: Redis does it in one go.
const BATCH: usize = 100;

/// When the earliest job is due that this worker is to wake up for.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    at: Mutex<Option<Instant>>,
    changed: Notify,
}

impl Alarm {
    /// A job that is earlier than all others is due in `due_in`.
    pub(crate) fn set(&self, due_in: Duration) {
        self.set_at(Instant::now() + due_in);
    }

    fn set_at(&self, new: Instant) {
        let mut at = self.lock();
        if at.is_none_or(|at| new < at) {
            *at = Some(new);
            self.changed.notify_one();
        }
    }

    fn get(&self) -> Option<Instant> {
        *self.lock()
    }

    /// Whether the alarm has gone off. Then it is not set any more.
    fn take_due(&self, now: Instant) -> bool {
        self.lock().take_if(|at| *at <= now).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        lock(&self.at)
    }
}

/// What the promoter waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wake {
    /// The look that every worker takes.
    Look(Instant),
    /// The alarm, which is exact.
    Alarm(Instant),
}

impl Wake {
    fn next(next_look: Instant, alarm: Option<Instant>) -> Self {
        let alarm = alarm.filter(|at| *at < next_look);
        alarm.map_or(Self::Look(next_look), Self::Alarm)
    }

    async fn sleep(self) {
        match self {
            Self::Look(at) => sleep_until(at.into()).await,
            Self::Alarm(at) => sleep_exactly_until(at).await,
        }
    }
}

/// What follows a promotion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AfterPromotion {
    /// More jobs are due than one step moves.
    PromoteMore,
    /// This worker wakes up for the next job, which is due in this time.
    SetAlarm(Duration),
    /// The next job is for the worker that knows it, or for the next look.
    Wait,
}

impl AfterPromotion {
    /// `is_ours` says that this worker's alarm went off, or that it promoted a job a moment
    /// ago: other workers do not wake up for the job that is due next. After a look that moved
    /// nothing they do, because the one that knows that job has set its alarm.
    ///
    /// When the alarm went off and the job is not due yet by Redis' clock, `due_in` is the rest.
    fn decide(is_ours: bool, promoted: &Promoted) -> Self {
        let has_moved = promoted.moved > 0;
        match promoted.due_in {
            Some(due_in) if due_in.is_zero() && has_moved => Self::PromoteMore,
            Some(due_in) if is_ours || has_moved => Self::SetAlarm(due_in),
            _ => Self::Wait,
        }
    }
}

/// Promotes jobs for one queue.
#[derive(Debug)]
pub(crate) struct Promoter {
    broker: Arc<Broker>,
    alarm: Arc<Alarm>,
    link: Link,
    stop: CancellationToken,
}

impl Promoter {
    pub(crate) fn new(shared: &Shared, alarm: Arc<Alarm>) -> Self {
        Self {
            broker: Arc::clone(&shared.broker),
            alarm,
            link: shared.connector.shared_link(),
            stop: shared.flags.stop.clone(),
        }
    }

    /// Promotes until the stop is requested.
    pub(crate) async fn run(mut self) {
        let mut next_look = Instant::now();
        while !self.stop.is_cancelled() {
            let wake = Wake::next(next_look, self.alarm.get());
            tokio::select! {
                () = wake.sleep() => {}
                () = self.alarm.changed.notified() => continue,
                () = self.stop.cancelled() => return,
            }
            let now = Instant::now();
            next_look = look_after(next_look, now);
            let is_ours = self.alarm.take_due(now);
            tokio::select! {
                _ = self.link.connect() => {}
                () = self.stop.cancelled() => return,
            }
            if !self.promote(is_ours).await {
                // As soon as the link is open again: jobs fell due meanwhile.
                next_look = Instant::now();
            }
        }
    }

    /// Promotes all jobs that are due. False when Redis is away.
    async fn promote(&mut self, mut is_ours: bool) -> bool {
        while !self.stop.is_cancelled() {
            let tells = trail::is_on();
            match self.broker.promote(&mut self.link, BATCH, tells).await {
                Ok(promoted) => {
                    promoted.told.iter().for_each(trail::tell_promoted);
                    match AfterPromotion::decide(is_ours, &promoted) {
                        AfterPromotion::PromoteMore => is_ours = true,
                        AfterPromotion::SetAlarm(due_in) => {
                            self.alarm.set(due_in);
                            return true;
                        }
                        AfterPromotion::Wait => return true,
                    }
                }
                Err(error) if error.class == Class::Operator => {
                    tokio::select! {
                        () = sleep(OPERATOR_RETRY) => {}
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

/// When the next look is, after the promoter woke up at `now`. An alarm changes nothing about
/// the look: a job that nobody knows waits for it.
fn look_after(next_look: Instant, now: Instant) -> Instant {
    if next_look <= now {
        now + INTERVAL
    } else {
        next_look
    }
}

/// Sleeps more exactly than tokio, whose timers go off up to a millisecond late. The last bit is
/// slept on a thread for blocking calls, if the system gives one. Cancel safe.
async fn sleep_exactly_until(at: Instant) {
    sleep_until((at - TIMER_GRAIN).into()).await;
    let rest = at.saturating_duration_since(Instant::now());
    if !rest.is_zero() {
        let asleep = tokio::task::spawn_blocking(move || thread::sleep(rest));
        let abort = asleep.abort_handle();
        // Without a thread it would sleep for ever, and delayed jobs would wait with it.
        if timeout_at((at + TIMER_GRAIN).into(), asleep).await.is_err() {
            abort.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn promoted(moved: u64, due_in: Option<Duration>) -> Promoted {
        Promoted {
            moved,
            due_in,
            told: Vec::new(),
        }
    }

    #[test]
    fn it_waits_for_the_alarm_only_if_that_comes_before_the_next_look() {
        let look = Instant::now() + INTERVAL;
        assert_eq!(Wake::next(look, None), Wake::Look(look));
        let before = look - ms(1);
        assert_eq!(Wake::next(look, Some(before)), Wake::Alarm(before));
        assert_eq!(Wake::next(look, Some(look)), Wake::Look(look));
        assert_eq!(Wake::next(look, Some(look + ms(1))), Wake::Look(look));
    }

    #[test]
    fn it_looks_once_a_second_however_often_the_alarm_goes_off() {
        let look = Instant::now();
        assert_eq!(look_after(look, look), look + INTERVAL);
        let late = look + ms(300);
        assert_eq!(look_after(look, late), late + INTERVAL);
        assert_eq!(look_after(look, look - ms(1)), look, "that was the alarm");
    }

    #[test]
    fn two_workers_do_not_wake_up_for_one_job() {
        let (rest, later) = (ms(3), ms(5000));
        for (is_ours, moved, due_in, after) in [
            // A look that moved nothing: whoever knows the next job has set its alarm.
            (false, 0, Some(later), AfterPromotion::Wait),
            (false, 0, None, AfterPromotion::Wait),
            // What was moved is seen by the one that moved it alone.
            (false, 7, Some(later), AfterPromotion::SetAlarm(later)),
            (false, 7, None, AfterPromotion::Wait),
            // The alarm went off. Somebody else moved the job, or its look did.
            (true, 0, Some(later), AfterPromotion::SetAlarm(later)),
            (true, 1, Some(later), AfterPromotion::SetAlarm(later)),
            (true, 0, None, AfterPromotion::Wait),
            // The alarm went off before Redis' clock said so.
            (true, 0, Some(rest), AfterPromotion::SetAlarm(rest)),
        ] {
            let promoted = promoted(moved, due_in);
            let decided = AfterPromotion::decide(is_ours, &promoted);
            assert_eq!(decided, after, "{is_ours} {promoted:?}");
        }
    }

    #[test]
    fn it_promotes_on_while_jobs_are_due_and_move() {
        let due = Some(Duration::ZERO);
        let full = promoted(100, due);
        for is_ours in [false, true] {
            let after = AfterPromotion::decide(is_ours, &full);
            assert_eq!(after, AfterPromotion::PromoteMore);
        }
        // Due and not moved: not at once again, or it would never come to rest.
        let stuck = promoted(0, due);
        assert_eq!(AfterPromotion::decide(false, &stuck), AfterPromotion::Wait);
        let after = AfterPromotion::decide(true, &stuck);
        assert_eq!(after, AfterPromotion::SetAlarm(Duration::ZERO));
    }

    #[test]
    fn the_alarm_is_for_the_earliest_job_and_goes_off_once() {
        let (alarm, now) = (Alarm::default(), Instant::now());
        assert!(!alarm.take_due(now));
        alarm.set_at(now + ms(20));
        alarm.set_at(now + ms(10));
        alarm.set_at(now + ms(30));
        assert_eq!(alarm.get(), Some(now + ms(10)));
        assert!(!alarm.take_due(now + ms(9)));
        assert!(alarm.take_due(now + ms(10)));
        assert!(!alarm.take_due(now + ms(60)));
        assert_eq!(alarm.get(), None);
    }
}
