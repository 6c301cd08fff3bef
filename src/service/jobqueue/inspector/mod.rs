//! What an operator may ask of a queue and do to it: look at it as a whole, list and find jobs, run
//! them now, cancel them, run dead letters again, pause. `jobctl` stands on this.
//!
//! An inspector belongs to no consumer group and needs no worker. All that it changes is changed by
//! scripts that check before they write.
//!
//! | to find | read |
//! |---|---|
//! | what is shown | `view`; `seen` makes it of what Redis has |
//! | the queue as a whole | `stats`, with `latency`; `workers` |
//! | lists, and one job of all | `listing`, `finding`, with `nearby`; `texts` has what a search looks for |
//! | what is done to one job, and to many | `action`, `acting`, `sweeping`; `filter` |

mod acting;
mod action;
mod filter;
mod finding;
mod latency;
mod listing;
mod nearby;
mod seen;
mod stats;
mod sweeping;
mod texts;
mod view;
mod workers;

#[cfg(feature = "programs")]
pub use self::action::{Acted, Action};
#[cfg(feature = "programs")]
pub use self::filter::Filter;
#[cfg(feature = "programs")]
pub use self::finding::Looking;
#[cfg(feature = "programs")]
pub use self::sweeping::{Extent, Swept};
#[cfg(feature = "programs")]
pub use self::view::{JobView, LastMinute, Page, Quantiles, State, Stats, Totals, WorkerView};

use super::redis::{Keys, Link, overview, steering};
use crate::config::{InvalidSetting, RedisConfig};

pub(crate) use super::redis::{Connector, Error};

/// The operator's way to one queue.
///
/// While Redis is away, each of its methods waits for it, so a caller that does not want to wait for ever bounds
/// the call. A call that is dropped may still have been carried out.
#[derive(Debug)]
pub struct Inspector {
    queue: String,
    keys: Keys,
    link: Link,
}

impl Inspector {
    /// An inspector of the queue named `queue`, and the connector that must be probed for it to work.
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub(crate) fn new(
        redis: &RedisConfig,
        queue: &str,
    ) -> Result<(Self, Connector), InvalidSetting> {
        let keys = Keys::new(queue);
        let connector = Connector::of_operator(redis, &keys)?;
        let link = connector.shared_link();
        let queue = queue.to_owned();
        Ok((Self { queue, keys, link }, connector))
    }

    /// Redis' clock. All times of jobs and workers are by it.
    ///
    /// # Errors
    /// When Redis refuses, or does not answer.
    pub async fn now_ms(&mut self) -> Result<u64, Error> {
        self.link.connect().await;
        Ok(overview(&self.keys, &mut self.link).await?.now_ms)
    }

    /// Pauses the queue, or lets it go on. Answers whether that changed anything.
    ///
    /// # Errors
    /// When Redis refuses, or does not answer.
    pub async fn set_paused(&mut self, paused: bool) -> Result<bool, Error> {
        self.link.connect().await;
        steering::set_paused(&mut self.link, &self.keys, paused).await
    }
}
