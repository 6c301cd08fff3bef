//! The reads that are on their way to Redis. Their replies come in the order in which they were sent.

use std::collections::VecDeque;
use std::future::{poll_fn, ready};
use std::task::Poll;
use std::time::Instant;

use futures_util::future::BoxFuture;

use super::reply_size::Asked;
use crate::service::jobqueue::redis::{Entry, Error};

type Reply = Result<Vec<Entry>, Error>;

/// The reads that are on their way, with what each asked for and when it was sent.
#[derive(Default)]
pub(super) struct Reads {
    sent: VecDeque<(Asked, Instant, BoxFuture<'static, Reply>)>,
}

impl Reads {
    /// How many entries the replies bring at most.
    pub(super) fn coming(&self) -> usize {
        self.sent.iter().map(|(asked, ..)| asked.count).sum()
    }

    /// Sends `read`, which asked for `asked`. The task of the connection has the command when this
    /// returns. If that task has too much to do, the command goes when this read is the first one.
    pub(super) async fn send(
        &mut self,
        asked: Asked,
        read: impl Future<Output = Reply> + Send + 'static,
    ) {
        let began = Instant::now();
        let mut read: BoxFuture<'static, Reply> = Box::pin(read);
        // A future sends its command when it is polled first.
        let polled = poll_fn(|context| Poll::Ready(read.as_mut().poll(context))).await;
        if let Poll::Ready(reply) = polled {
            read = Box::pin(ready(reply));
        }
        self.sent.push_back((asked, began, read));
    }

    /// The reply to the read that was sent first, or `None` when none is on its way.
    ///
    /// Not cancel safe: the reply is lost.
    pub(super) async fn next(&mut self) -> Option<(Asked, Instant, Reply)> {
        let (asked, began, read) = self.sent.pop_front()?;
        Some((asked, began, read.await))
    }
}
