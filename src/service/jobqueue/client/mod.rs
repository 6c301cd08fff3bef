//! The producer: appends jobs to the stream with XADD, and does nothing else.
//!
//! Group commit: jobs that come together are sent together. Jobs that come while batches are on
//! their way wait until they are worth one more batch, for a moment at most. The callers only
//! wait for their results. One task sends for all of them and keeps their deadlines.
//!
//! A job goes from [`Client::enqueue`] (`producer`) to the `outbox`, where it waits. `sending`
//! takes it from there in a batch when `line` says so, and answers its caller.

mod error;
mod line;
mod outbox;
mod producer;
mod refusal;
mod sending;

pub use self::error::EnqueueError;
pub use self::producer::Client;
