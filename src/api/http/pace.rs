//! How long a client may take until its request is there.
//!
//! hyper's own limit on a head runs while nothing comes at all, too. A client that keeps a
//! connection for later, as pools of proxies do, may wait for much longer than one that has
//! begun with a request.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Mutex, PoisonError},
    task::{Poll, ready},
};

use tokio::time::{Instant, sleep_until};

use crate::config::HttpConfig;

/// What happens on a connection, and since when.
#[derive(Debug)]
pub(super) struct Pace {
    now: Mutex<(Step, Instant)>,
}

/// A request passes all of them in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// No byte of a request has come. One that came together with the request before does not
    /// count until another follows.
    Idle,
    /// The head of a request is on its way.
    Head,
    /// A handler has the request, and limits what it waits for itself.
    Handler,
    /// The answer is on its way, which `stream` limits.
    Answer,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            now: Mutex::new((Step::Idle, Instant::now())),
        }
    }

    /// Bytes have come.
    pub(super) fn heard(&self) {
        self.step(&[Step::Idle], Step::Head);
    }

    /// The head of a request has come.
    pub(super) fn asked(&self) {
        self.step(&[Step::Idle, Step::Head, Step::Answer], Step::Handler);
    }

    /// There is an answer.
    pub(super) fn answers(&self) {
        self.step(&[Step::Handler], Step::Answer);
    }

    /// Everything has been sent.
    pub(super) fn flushed(&self) {
        self.step(&[Step::Answer], Step::Idle);
    }

    fn step(&self, from: &[Step], to: Step) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if from.contains(&now.0) {
            *now = (to, Instant::now());
        }
    }

    /// Until when the client must have done the next thing; `None` while that is not its turn.
    fn deadline(&self, time: &HttpConfig) -> Option<Instant> {
        let (step, since) = *self.now.lock().unwrap_or_else(PoisonError::into_inner);
        match step {
            Step::Idle => Some(since + time.idle_timeout),
            Step::Head => Some(since + time.read_timeout),
            Step::Handler | Step::Answer => None,
        }
    }

    /// Waits until the client has taken too long.
    ///
    /// It is not woken by a step: it must be polled after whatever takes steps, by the same task.
    /// So a request that has come in time is not overlooked: it is read first.
    pub(super) async fn overdue(&self, time: &HttpConfig) {
        let mut timer = pin!(sleep_until(Instant::now() + time.idle_timeout));
        poll_fn(|cx| {
            while let Some(deadline) = self.deadline(time) {
                // It is moved back only when it goes off: most deadlines are met long before.
                if deadline < timer.deadline() {
                    timer.as_mut().reset(deadline);
                }
                ready!(timer.as_mut().poll(cx));
                if deadline <= timer.deadline() {
                    return Poll::Ready(());
                }
                timer.as_mut().reset(deadline);
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

    const TIME: HttpConfig = HttpConfig {
        read_timeout: Duration::from_millis(100),
        write_timeout: Duration::from_millis(1),
        idle_timeout: Duration::from_millis(400),
    };

    /// Far more than anything here takes.
    const LONG: Duration = Duration::from_secs(10);

    /// How long the client may take from now on.
    async fn patience(pace: &Pace) -> Duration {
        let began = Instant::now();
        timeout(LONG, pace.overdue(&TIME)).await.unwrap();
        began.elapsed()
    }

    #[tokio::test]
    async fn a_client_may_be_idle_for_longer_than_it_may_take_over_a_head() {
        let pace = Pace::new();
        assert!(patience(&pace).await >= TIME.idle_timeout);
        let pace = Pace::new();
        pace.heard();
        let over_head = patience(&pace).await;
        assert!(over_head >= TIME.read_timeout, "{over_head:?}");
        assert!(over_head < TIME.idle_timeout, "{over_head:?}");
    }

    #[tokio::test]
    async fn further_bytes_of_a_head_give_no_more_time() {
        let pace = Pace::new();
        pace.heard();
        sleep(TIME.read_timeout).await;
        pace.heard();
        assert!(patience(&pace).await < TIME.read_timeout);
    }

    #[tokio::test]
    async fn neither_a_handler_nor_an_answer_is_limited() {
        let pace = Pace::new();
        for step in [Pace::asked, Pace::answers, Pace::heard] {
            step(&pace);
            let overdue = timeout(TIME.idle_timeout * 2, pace.overdue(&TIME)).await;
            assert!(overdue.is_err());
        }
    }

    #[tokio::test]
    async fn idleness_begins_when_the_answer_is_sent() {
        let pace = Pace::new();
        pace.asked();
        // Of a `100 Continue`.
        pace.flushed();
        pace.answers();
        let overdue = pace.overdue(&TIME);
        let sent = async {
            sleep(TIME.idle_timeout).await;
            pace.flushed();
            Instant::now()
        };
        let mut overdue = pin!(overdue);
        // As a connection does, it takes a step and is polled.
        let sent = tokio::select! {
            () = overdue.as_mut() => panic!("before the answer was sent"),
            sent = sent => sent,
        };
        timeout(LONG, overdue).await.unwrap();
        assert!(sent.elapsed() >= TIME.idle_timeout);
    }
}
