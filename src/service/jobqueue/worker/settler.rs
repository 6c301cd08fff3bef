//! Tells Redis how deliveries ended.
//!
//! Group commit: everything that ended while a batch was on its way goes out together in one round
//! trip, without a timer. Where Redis is far away so much ends meanwhile that several batches are on
//! their way at once: a job that ran counts as one that may run twice until Redis has confirmed it,
//! and only so many of those may be. Through an outage the settlements are kept and sent
//! afterwards, so that a job that finished is not run again. A settlement that got no reply is
//! sent again, which is harmless: the second time it changes nothing.
//!
//! At the beginning of each epoch, `recognition` comes first.

use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::decide;
use super::held::Held;
use super::job_log::JobLog;
use super::outcome::{Delivery, Outcome, Settlement, Times};
use super::pace::NEAR;
use super::promoter::Alarm;
use super::recognition::recognise;
use super::refused::Refused;
use super::shared::Shared;
use super::tally::{Counts, Sampler, Tally, events_of};
use super::trail::{self, Step};
use crate::service::jobqueue::redis::{
    Batch, Broker, Class, CommandEffects, CommandResult, Destination, Effect, EntryId, Error,
    FinishedJob, LONG_TRIP, Link, Record, SettlingRules, Trip, Window,
};
use crate::shortened::shortened;

/// How many settlements are taken together.
const MAX_BATCH: usize = 1000;
const NOT_RECORDED: &str = "cannot record what people are told of jobs; the jobs themselves go on";
const DROPPED: &str = "dropped the oldest dead letters";
const LOST: &str = "entries that this worker runs are gone from redis: another worker took them over \
    and finished them, redis came back without its newest data, or somebody deleted them";

/// Sends what [`Held`] has to settle. There is one in a worker.
#[derive(Debug)]
pub(crate) struct Settler {
    broker: Arc<Broker>,
    held: Arc<Held>,
    log: Arc<JobLog>,
    /// The promoter's alarm, which is set for jobs that go to the scheduled set.
    alarm: Arc<Alarm>,
    link: Link,
    window: Window,
    rules: SettlingRules,
    tally: Arc<Tally>,
    /// Which finished jobs are kept. None when none are.
    sampler: Option<Sampler>,
    refused: Refused,
    /// The epoch in which all that is held was recognised.
    epoch: u64,
    /// How many bytes are on their way to Redis.
    bytes_sent: usize,
    /// Cancelled when no more deliveries will end. Then the settler settles what is left and ends.
    finish: CancellationToken,
}

impl Settler {
    /// A settler that ends when everything is settled after `finish`. It keeps up to `done_per_second`
    /// finished jobs a second.
    pub(crate) fn new(
        shared: &Shared,
        alarm: Arc<Alarm>,
        rules: SettlingRules,
        done_per_second: u32,
        finish: CancellationToken,
    ) -> Self {
        let now = Instant::now();
        Self {
            broker: Arc::clone(&shared.broker),
            held: Arc::clone(&shared.held),
            log: Arc::clone(&shared.log),
            alarm,
            link: shared.connector.shared_link(),
            window: Window::new(LONG_TRIP),
            rules,
            tally: Arc::clone(&shared.tally),
            sampler: (rules.done_max_len > 0).then(|| Sampler::new(done_per_second, now)),
            refused: Refused::new(now),
            epoch: 0,
            bytes_sent: 0,
            finish,
        }
    }

    /// Settles until `finish`, and then until nothing is left that Redis takes. When it is
    /// dropped earlier, settlements are left over: [`Held::unsettled`] tells how many.
    pub(crate) async fn run(mut self) {
        let mut trips = FuturesUnordered::new();
        loop {
            let sent = trips.len();
            tokio::select! {
                biased;
                Some(trip) = trips.next() => self.arrived(trip),
                more = self.wait_for_work(sent) => {
                    if !more {
                        return;
                    }
                    self.link.connect().await;
                    if self.link.epoch() == self.epoch || self.begin_epoch().await.is_ok() {
                        trips.extend(self.send());
                    }
                }
            }
        }
    }

    /// Waits until there is something to settle, or another epoch begins, while `sent` round trips are
    /// on their way. False at the end. Cancel safe.
    async fn wait_for_work(&self, sent: usize) -> bool {
        loop {
            let recognised = self.link.epoch() == self.epoch;
            if !recognised || self.may_send(sent) {
                return true;
            }
            let over = self.finish.is_cancelled();
            if over && sent == 0 {
                return false;
            }
            if sent > 0 && !self.is_far() {
                self.link.next_epoch().await;
                return true;
            }
            let retry_at = self.refused.retry_at().filter(|_| sent == 0);
            let tally_at = self.tally.due().filter(|_| sent == 0 && self.link.is_up());
            let due_at = retry_at.into_iter().chain(tally_at).min();
            let due = async {
                sleep_until(due_at?.into()).await;
                Some(())
            };
            tokio::select! {
                () = self.held.wait_for_outcomes() => {}
                () = self.tally.wait() => {}
                Some(()) = due => {}
                () = self.finish.cancelled(), if !over => {}
                () = self.link.next_epoch() => return true,
            }
        }
    }

    /// Whether Redis is so far away that a second batch is worth more than a larger one.
    fn is_far(&self) -> bool {
        self.window.round_trip() > NEAR
    }

    /// Whether another round trip may begin: when none is on its way, or when Redis is far away, much
    /// has gathered, and the line has room for it.
    fn may_send(&self, sent: usize) -> bool {
        if sent == 0 {
            return self.held.has_outcomes() || self.refused_are_due() || self.tally_is_due();
        }
        self.is_far() && self.held.has_many_outcomes() && self.bytes_sent < self.window.bytes()
    }

    /// Whether the counts are to go out: now and then, and at the end. Nobody waits for Redis because of
    /// them.
    fn tally_is_due(&self) -> bool {
        let due = self.tally.due();
        due.is_some_and(|due| due <= Instant::now() || self.finish.is_cancelled())
            && self.link.is_up()
    }

    fn refused_are_due(&self) -> bool {
        let ending = self.finish.is_cancelled();
        self.refused.are_due(Instant::now(), ending)
    }

    fn next_batch(&mut self) -> Vec<Settlement> {
        let mut batch = self.held.take_outcomes(MAX_BATCH);
        let ending = self.finish.is_cancelled();
        batch.append(&mut self.refused.take_due(Instant::now(), ending));
        batch
    }

    /// Finds out which of the held entries Redis still has. What was refused before is
    /// settled anew, if its entry is one of them.
    async fn begin_epoch(&mut self) -> Result<(), Error> {
        self.held.unsettle(self.refused.take_all());
        let epoch = self.link.epoch();
        let lost = recognise(&self.broker, &mut self.link, &self.held).await?;
        if lost > 0
            && let Some(suppressed) = self.log.admit_many(LOST, "", "", lost as u64)
        {
            warn!(lost, suppressed, "{LOST}");
        }
        self.epoch = epoch;
        self.window.connected();
        Ok(())
    }

    /// A round trip for what there is to settle, if there is anything. It begins when it is polled.
    fn send(&mut self) -> Option<impl Future<Output = Trip<Settlement>> + use<>> {
        let settlements = self.next_batch();
        let (mut batch, rest) = Batch::new(settlements, self.window.bytes(), address);
        self.held.unsettle(rest);
        let record = self.next_record(&mut batch);
        if batch.is_empty() && record.is_empty() {
            return None;
        }
        self.bytes_sent += batch.bytes();
        let (link, window) = (&self.link, &self.window);
        Some(self.broker.settle(link, window, self.rules, batch, &record))
    }

    /// What is to be recorded beside a batch: the jobs of it that have finished, or a sample of them, and
    /// now and then the counts.
    fn next_record(&mut self, batch: &mut Batch<Settlement>) -> Record {
        let mut record = Record::default();
        let now = Instant::now();
        if self.tally_is_due() {
            record.counts = self.tally.take();
        }
        let Some(sampler) = &mut self.sampler else {
            return record;
        };
        for settlement in batch.settlements_mut() {
            // An outcome that is sent a second time has no times any more, and is not recorded twice.
            if let Outcome::Done(times) = &mut settlement.outcome
                && let Some(times) = times.take()
                && let Some(stands_for) = sampler.admit(now)
                && let Some(delivery) = self.held.delivery_of(settlement)
            {
                let job = finished(&delivery, times, now, stands_for);
                record.finished.push(job);
            }
        }
        record
    }

    fn arrived(&mut self, trip: Trip<Settlement>) {
        self.bytes_sent -= trip.bytes();
        if let Some(error) = trip.record_refused()
            && let Some(suppressed) = self.log.admit(NOT_RECORDED, "", &error.to_string())
        {
            warn!(%error, suppressed, "{NOT_RECORDED}");
        }
        // What was sent before the last recognition may be of entries that are forgotten. So what
        // failed of it is not kept here: `unsettle` knows which are still held.
        let recognised = trip.epoch() == self.epoch;
        match trip.results(&mut self.link, &mut self.window) {
            Ok(results) => {
                let results = results.into_iter();
                results.for_each(|result| self.take_in(result, recognised));
            }
            Err(settlements) => self.held.unsettle(settlements),
        }
    }

    fn take_in(&mut self, result: CommandResult<Settlement>, recognised: bool) {
        match result {
            CommandResult::Settled(effects) => self.settled(effects),
            CommandResult::Failed { error, settlements }
                if recognised && error.class == Class::Operator =>
            {
                self.held.refuse(&settlements);
                let beyond = self.refused.keep(settlements, Instant::now());
                self.held.settled(beyond.let_go.into_iter());
                self.held.put_off(&beyond.put_off);
            }
            CommandResult::Failed { settlements, .. } => self.held.unsettle(settlements),
        }
    }

    fn settled(&self, effects: CommandEffects<Settlement>) {
        if let Some(due_in) = effects.due_in() {
            self.alarm.set(due_in);
        }
        if effects.dropped() > 0 {
            self.tell_dropped(effects.dropped());
        }
        let mut over = Vec::with_capacity(effects.len());
        let mut counts = Counts::default();
        let tells = trail::is_on();
        for (settlement, effect) in effects.into_effects() {
            match effect {
                Effect::Runs => {
                    self.run_instead(settlement);
                    continue;
                }
                Effect::Cancelled => {
                    if let Some(delivery) = self.held.delivery_of(&settlement) {
                        let outcome = decide::cancelled(&delivery);
                        self.held.replace(&settlement, outcome);
                        continue;
                    }
                }
                Effect::Applied => {
                    let events = events_of(&settlement.outcome);
                    events.for_each(|event| counts.add(event, 1));
                }
                Effect::NotOwner => {}
            }
            // Not owned is settled as well: the lease was lost and another worker has the
            // entry, or this is the answer to a settlement that was sent before.
            if tells {
                self.tell(&settlement, effect);
            }
            over.push(settlement);
        }
        self.tally.add(counts);
        self.held.settled(over.into_iter());
    }

    /// The delay of a job is over, or it has not expired: it runs. One whose delay is over may have expired.
    fn run_instead(&self, settlement: Settlement) {
        if let Outcome::Park(delivery) = &settlement.outcome
            && let Some(at_ms) = delivery.expires_at()
        {
            let outcome = decide::expire(Arc::clone(delivery), at_ms);
            self.held.replace(&settlement, outcome);
        } else {
            self.held.resume(settlement, Instant::now());
        }
    }

    fn tell_dropped(&self, dropped: u64) {
        if let Some(suppressed) = self.log.admit_many(DROPPED, "", "", dropped) {
            let kept = self.rules.dead_letter_max_len;
            warn!(dropped, kept, suppressed, "{DROPPED}");
        }
    }

    /// Tells the trail what Redis has confirmed of a job, or refused.
    fn tell(&self, settlement: &Settlement, effect: Effect) {
        let Some(step) = step_of(&settlement.outcome, effect) else {
            return;
        };
        match self.held.delivery_of(settlement) {
            Some(delivery) => delivery.tell(step),
            None => {
                let job_id = match &settlement.outcome {
                    Outcome::Dead(letter) => letter.job_id.as_deref(),
                    _ => None,
                };
                step.tell_of_entry(settlement.id, job_id);
            }
        }
    }
}

/// Which entry a settlement is for, and where its outcome sends the entry.
fn address(settlement: &Settlement) -> (EntryId, Destination<'_>) {
    let destination = match &settlement.outcome {
        Outcome::Done(_) => Destination::Gone,
        Outcome::Park(delivery) => Destination::Delay {
            json: &delivery.json,
            job: &delivery.job,
        },
        Outcome::Expire { letter, at_ms, .. } => Destination::Expired {
            letter,
            at_ms: *at_ms,
        },
        Outcome::Retry {
            edits,
            backoff: pause,
        }
        | Outcome::LeaveToOthers { edits, pause } => Destination::Pause {
            edits,
            pause: *pause,
        },
        Outcome::Dead(letter) => Destination::DeadLetters(letter),
        Outcome::PutBack { deliveries } => Destination::PutBack {
            deliveries: *deliveries,
        },
        Outcome::PutOff { deliveries } => Destination::PutOff {
            deliveries: *deliveries,
        },
    };
    (settlement.id, destination)
}

/// What is recorded of a job that has run.
fn finished(delivery: &Delivery, times: Times, now: Instant, stands_for: u64) -> FinishedJob {
    let (job, entry) = (&delivery.job, delivery.id);
    let id = job.id.as_deref().map(shortened);
    FinishedJob {
        job_id: id.unwrap_or_else(|| entry.to_string()),
        job_type: shortened(&job.job_type),
        attempt: job.attempt,
        registered_ms: job.registered_ms.unwrap_or(entry.ms()),
        // A job that was parked has an entry since its delay was over. One that was not still has its
        // delay.
        due_ms: entry.ms().saturating_add(job.delay_ms),
        ran: times.ended - times.began,
        ended: now.saturating_duration_since(times.ended),
        stands_for,
    }
}

/// The step of a job's trail that an effect is, if it was not told before.
fn step_of(outcome: &Outcome, effect: Effect) -> Option<Step> {
    match (outcome, effect) {
        // Its end was told when its handler ended, and counts whoever owns the entry.
        (Outcome::Done(_), _) => None,
        // It was told with its job when that was decided.
        (Outcome::LeaveToOthers { .. }, Effect::Applied) => None,
        // It goes on in another way, which is told then.
        (_, Effect::Runs | Effect::Cancelled) => None,
        (_, Effect::NotOwner) => Some(Step::LeaseLost),
        (Outcome::Park(_), _) => Some(Step::Parked),
        (Outcome::Retry { .. }, _) => Some(Step::Retried),
        (Outcome::Dead(_) | Outcome::Expire { .. }, _) => Some(Step::Buried),
        (Outcome::PutBack { .. } | Outcome::PutOff { .. }, _) => Some(Step::PutBack),
    }
}
