//! How long a client may be idle, and how long it may take for the head of a request.
//!
//! hyper has one limit for a head, which runs while the connection is idle as well. But pools of
//! proxies keep a connection for later, and such a connection may wait much longer than one on
//! which a request has begun.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Mutex,
    task::{Poll, ready},
};

use tokio::time::{Instant, sleep_until};

use crate::{config::HttpConfig, lock::lock};

/// The step that a connection is in, and since when.
#[derive(Debug)]
pub(super) struct RequestTimer {
    now: Mutex<(Step, Instant)>,
}

/// A request passes all steps in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// No byte of a request has arrived. A byte that arrived together with the last request counts
    /// only when another one follows.
    Idle,
    /// The first bytes of a head have arrived.
    Head,
    /// A handler has the request. It limits its own waiting for the body.
    Handler,
    /// The answer is being sent, and `client_stream` limits that.
    Answer,
}

impl RequestTimer {
    pub(super) fn new() -> Self {
        Self {
            now: Mutex::new((Step::Idle, Instant::now())),
        }
    }

    /// Bytes have arrived.
    pub(super) fn bytes_received(&self) {
        self.step(&[Step::Idle], Step::Head);
    }

    /// The head of a request has arrived.
    pub(super) fn head_received(&self) {
        self.step(&[Step::Idle, Step::Head, Step::Answer], Step::Handler);
    }

    /// The handler has made its answer.
    pub(super) fn answer_ready(&self) {
        self.step(&[Step::Handler], Step::Answer);
    }

    /// Everything has been sent.
    pub(super) fn flushed(&self) {
        self.step(&[Step::Answer], Step::Idle);
    }

    /// Begins the step `to`, unless the connection is in none of the steps `from`.
    fn step(&self, from: &[Step], to: Step) {
        let mut now = lock(&self.now);
        if from.contains(&now.0) {
            *now = (to, Instant::now());
        }
    }

    /// When the client will have taken too long for this step; `None` while no limit runs.
    fn deadline(&self, timeouts: &HttpConfig) -> Option<Instant> {
        let (step, since) = *lock(&self.now);
        match step {
            Step::Idle => Some(since + timeouts.idle_timeout),
            Step::Head => Some(since + timeouts.read_timeout),
            Step::Handler | Step::Answer => None,
        }
    }

    /// Waits until the client has taken too long.
    ///
    /// A step does not wake this future. The task that makes the steps must poll it, and must poll
    /// it after the connection: then a request that has arrived in time is read first.
    pub(super) async fn overdue(&self, timeouts: &HttpConfig) {
        let mut sleep = pin!(sleep_until(Instant::now() + timeouts.idle_timeout));
        poll_fn(|cx| {
            while let Some(deadline) = self.deadline(timeouts) {
                // An earlier deadline is set at once, a later one only when the sleep ends: most
                // deadlines are met long before.
                if deadline < sleep.deadline() {
                    sleep.as_mut().reset(deadline);
                }
                ready!(sleep.as_mut().poll(cx));
                if deadline <= sleep.deadline() {
                    return Poll::Ready(());
                }
                sleep.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{sleep, timeout};

    use super::*;

    const TIMEOUTS: HttpConfig = HttpConfig {
        read_timeout: Duration::from_millis(100),
        write_timeout: Duration::from_millis(1),
        idle_timeout: Duration::from_millis(400),
    };

    /// Far longer than anything here takes.
    const LONG: Duration = Duration::from_secs(10);

    /// How long it takes from now until the client is overdue.
    async fn time_left(timer: &RequestTimer) -> Duration {
        let began = Instant::now();
        timeout(LONG, timer.overdue(&TIMEOUTS)).await.unwrap();
        began.elapsed()
    }

    #[tokio::test]
    async fn a_client_may_be_idle_for_longer_than_it_may_take_for_a_head() {
        let timer = RequestTimer::new();
        assert!(time_left(&timer).await >= TIMEOUTS.idle_timeout);
        let timer = RequestTimer::new();
        timer.bytes_received();
        let over_head = time_left(&timer).await;
        assert!(over_head >= TIMEOUTS.read_timeout, "{over_head:?}");
        assert!(over_head < TIMEOUTS.idle_timeout, "{over_head:?}");
    }

    #[tokio::test]
    async fn further_bytes_of_a_head_give_no_more_time() {
        let timer = RequestTimer::new();
        timer.bytes_received();
        sleep(TIMEOUTS.read_timeout).await;
        timer.bytes_received();
        assert!(time_left(&timer).await < TIMEOUTS.read_timeout);
    }

    #[tokio::test]
    async fn neither_a_handler_nor_an_answer_is_limited() {
        let timer = RequestTimer::new();
        for step in [
            RequestTimer::head_received,
            RequestTimer::answer_ready,
            RequestTimer::bytes_received,
        ] {
            step(&timer);
            let overdue = timeout(TIMEOUTS.idle_timeout * 2, timer.overdue(&TIMEOUTS)).await;
            assert!(overdue.is_err());
        }
    }

    #[tokio::test]
    async fn idleness_begins_when_the_answer_is_sent() {
        let timer = RequestTimer::new();
        timer.head_received();
        // A `100 Continue` is flushed before the answer.
        timer.flushed();
        timer.answer_ready();
        let overdue = timer.overdue(&TIMEOUTS);
        let sent = async {
            sleep(TIMEOUTS.idle_timeout).await;
            timer.flushed();
            Instant::now()
        };
        let mut overdue = pin!(overdue);
        // Like a connection, this task makes the step and polls.
        let sent = tokio::select! {
            () = overdue.as_mut() => panic!("before the answer was sent"),
            sent = sent => sent,
        };
        timeout(LONG, overdue).await.unwrap();
        assert!(sent.elapsed() >= TIMEOUTS.idle_timeout);
    }
}
