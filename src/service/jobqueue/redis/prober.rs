//! The prober: connects to Redis, and connects again after each outage.
//!
//! A process has one. It tries again after longer and longer pauses, so that a Redis that is
//! starting is not overrun.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::backoff::{Backoff, gap_left};
use super::connector::Connector;

/// How often the prober of a Redis that can be used looks after what lasts.
const LOOK_PERIOD: Duration = Duration::from_secs(5);

impl Connector {
    /// Keeps this process connected until `stop`. Call it once.
    pub(crate) async fn probe(&self, stop: CancellationToken) {
        let mut status = self.subscribe();
        let config = self.config();
        let mut backoff = Backoff::new(config.min_retry_backoff, config.max_retry_backoff);
        let mut last_attempt: Option<Instant> = None;
        while !stop.is_cancelled() {
            let mut wait = LOOK_PERIOD;
            if !status.borrow_and_update().up {
                sleep(gap_left(last_attempt.map(|at| at.elapsed()))).await;
                last_attempt = Some(Instant::now());
                match self.attempt().await {
                    Ok(()) => {
                        backoff.reset();
                        continue;
                    }
                    Err(error) => wait = backoff.pause(error.class, fastrand::f64()),
                }
            }
            let stand_by = async {
                sleep(wait).await;
                self.look_after().await;
            };
            tokio::select! {
                () = stand_by => {}
                _ = status.changed() => {}
                () = stop.cancelled() => {}
            }
        }
    }
}
