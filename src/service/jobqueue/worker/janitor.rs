//! Removes consumers from the group whose process is gone, and other things that nobody needs any more,
//! about once a lease.
//!
//! It takes over no entries: a consumer that has something pending stays, until the fetchers of
//! other workers have taken that over.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::shared::Shared;
use crate::service::jobqueue::redis::{Broker, Error, LeaseTimes, Link, OPERATOR_RETRY};

/// It looks once a lease, and no more often than this.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Cleans up after other workers.
#[derive(Debug)]
pub(crate) struct Janitor {
    broker: Arc<Broker>,
    link: Link,
    times: LeaseTimes,
    stop: CancellationToken,
}

impl Janitor {
    pub(crate) fn new(shared: &Shared, times: LeaseTimes) -> Self {
        Self {
            broker: Arc::clone(&shared.broker),
            link: shared.connector.shared_link(),
            times,
            stop: shared.flags.stop.clone(),
        }
    }

    /// Cleans up until the stop is requested.
    pub(crate) async fn run(mut self) {
        let stop = self.stop.clone();
        tokio::select! {
            () = self.clean_up() => {}
            () = stop.cancelled() => {}
        }
    }

    /// Never returns.
    async fn clean_up(&mut self) {
        let interval = interval(self.times.lease);
        sleep(first_pause(interval, fastrand::f64())).await;
        loop {
            self.link.connect().await;
            let removed = self.broker.remove_consumers(&mut self.link, &self.times);
            let removed = removed.await;
            if let Ok(removed) = removed
                && removed > 0
            {
                info!(removed, "removed consumers of processes that are gone");
            }
            if removed.is_ok() {
                self.broker.tidy(&mut self.link).await;
            }
            sleep(next_pause(interval, &removed)).await;
        }
    }
}

fn interval(lease: Duration) -> Duration {
    lease.max(MIN_INTERVAL)
}

/// Workers that were started together do not all look at once. `random` is from 0 to 1.
fn first_pause(interval: Duration, random: f64) -> Duration {
    interval.mul_f64(random)
}

/// After an error, which the link has logged, it looks again soon: the log also says when an
/// operator has mended it.
fn next_pause(interval: Duration, removed: &Result<i64, Error>) -> Duration {
    match removed {
        Ok(_) => interval,
        Err(_) => interval.min(OPERATOR_RETRY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::jobqueue::redis::Class;

    #[test]
    fn it_looks_once_a_lease_but_not_many_times_a_second() {
        let lease = Duration::from_secs(15);
        assert_eq!(interval(lease), lease);
        assert_eq!(interval(Duration::from_millis(90)), MIN_INTERVAL);
    }

    #[test]
    fn the_first_look_is_somewhere_in_the_first_interval() {
        let interval = Duration::from_secs(15);
        assert_eq!(first_pause(interval, 0.0), Duration::ZERO);
        assert_eq!(first_pause(interval, 0.5), interval / 2);
        assert!(first_pause(interval, 1.0 - f64::EPSILON) <= interval);
    }

    #[test]
    fn after_an_error_it_looks_again_soon() {
        let (long, short) = (Duration::from_secs(15), Duration::from_secs(2));
        let error = Err(Error::new(Class::Operator, "x"));
        for (interval, removed, pause) in [
            (long, Ok(0), long),
            (long, Ok(7), long),
            (long, error.clone(), OPERATOR_RETRY),
            (short, error, short),
        ] {
            assert_eq!(next_pause(interval, &removed), pause, "{removed:?}");
        }
    }
}
