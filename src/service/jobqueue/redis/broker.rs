//! One consumer's view of one queue: whose commands these are, and which keys they name.
//!
//! The commands stand in files of their own, by what they are for: `reading`, `reclaiming`,
//! `leases`, `settling`, `promoting` and `consumers`. Each of them is one command or one script
//! with typed arguments, and gives a typed reply.

use super::keys::Keys;

/// Gives a worker's commands to Redis.
#[derive(Debug)]
pub(crate) struct Broker {
    keys: Keys,
    consumer: String,
}

impl Broker {
    pub(crate) fn new(queue: &str, consumer: String) -> Self {
        Self {
            keys: Keys::new(queue),
            consumer,
        }
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The name of this worker in the queue's group.
    pub(crate) fn consumer(&self) -> &str {
        &self.consumer
    }
}
