//! What this process knows of its Redis: whether it can be used, and over which connection.
//!
//! Nothing here connects. The prober sets the connection up, everybody may report that it is
//! lost, and everybody may wait for one or the other.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::lock::lock;

/// Whether Redis can be used, and which time this is.
#[derive(Debug, Clone)]
pub(super) struct Status {
    pub(super) up: bool,
    /// Counts how often all connections had to be opened anew. A report about a connection of
    /// an earlier generation is old news.
    pub(super) generation: u64,
    /// Counts how often Redis was found fit: after each outage, and after each loss of the
    /// stream. Only within one epoch an entry id surely means the same entry.
    pub(super) epoch: u64,
    /// The mark of the stream in this epoch.
    pub(super) incarnation: Arc<str>,
}

/// The status and the shared connection. They change together.
///
/// The connection is of any type `C`, so that the tests need no Redis.
#[derive(Debug)]
pub(super) struct SharedConnection<C> {
    status: watch::Sender<Status>,
    /// The connection that the prober opened, for all parts that need none of their own. It is
    /// taken away when it is of no use. The next one comes with the next generation.
    ///
    /// Invariant: `status` changes only while this is locked. Otherwise the prober, which may
    /// wake up at once, could set up a connection that is then taken away.
    connection: Mutex<Option<C>>,
}

impl<C: Clone> SharedConnection<C> {
    pub(super) fn new() -> Self {
        Self {
            status: watch::Sender::new(Status {
                up: false,
                generation: 0,
                epoch: 0,
                incarnation: "".into(),
            }),
            connection: Mutex::new(None),
        }
    }

    /// The connection and the status that it belongs to, if Redis could be used a moment ago.
    pub(super) fn get(&self) -> Option<(Status, C)> {
        let connection = lock(&self.connection);
        let status = self.status.borrow().clone();
        status.up.then_some((status, connection.clone()?))
    }

    pub(super) fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Whether no other epoch than `epoch` has begun.
    pub(super) fn is_in(&self, epoch: u64) -> bool {
        self.status.borrow().epoch == epoch
    }

    /// Whether Redis could be used a moment ago.
    pub(super) fn is_up(&self) -> bool {
        self.status.borrow().up
    }

    /// Tells of all changes from now on.
    pub(super) fn subscribe(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Waits until Redis can be used in another epoch than the one named. Cancel safe.
    pub(super) async fn up_beyond(&self, epoch: Option<u64>) -> Status {
        let mut status = self.subscribe();
        loop {
            let now = status.borrow_and_update().clone();
            // An error cannot happen while `self` holds the sender.
            if now.up && Some(now.epoch) != epoch || status.changed().await.is_err() {
                return now;
            }
        }
    }

    /// Waits until connections of `generation` are of no use any more. Cancel safe.
    pub(super) async fn gone(&self, generation: u64) {
        let mut status = self.subscribe();
        let gone = |status: &Status| !status.up || status.generation != generation;
        // An error cannot happen while `self` holds the sender.
        drop(status.wait_for(gone).await);
    }

    /// Takes the connection that a loss has left, if it has left one: it is still good.
    pub(super) fn take(&self) -> Option<C> {
        lock(&self.connection).take()
    }

    /// Redis was found fit over this connection. A `fresh` one begins a generation.
    pub(super) fn set_up(&self, new: C, fresh: bool, incarnation: Arc<str>) {
        let mut connection = lock(&self.connection);
        *connection = Some(new);
        self.status.send_modify(|status| {
            status.up = true;
            status.generation += u64::from(fresh);
            status.epoch += 1;
            status.incarnation = incarnation;
        });
    }

    /// Redis cannot be used over connections of `generation`. Answers whether that is news.
    /// With `keep`, the connection itself is still good.
    pub(super) fn lost(&self, generation: u64, keep: bool) -> bool {
        let mut connection = lock(&self.connection);
        let news = self.status.send_if_modified(|status| {
            let news = status.up && status.generation == generation;
            status.up &= !news;
            news
        });
        if news && !keep {
            let gone = connection.take();
            drop(connection);
            // Its end is reported here again, perhaps before this returns: not under the lock.
            drop(gone);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn set_up(shared: &SharedConnection<&'static str>, connection: &'static str, fresh: bool) {
        shared.set_up(connection, fresh, "mark".into());
    }

    fn now(shared: &SharedConnection<&'static str>) -> Option<(&'static str, u64, u64)> {
        let (status, connection) = shared.get()?;
        Some((connection, status.generation, status.epoch))
    }

    #[test]
    fn a_loss_takes_the_connection_away_and_a_new_one_begins_a_generation() {
        let shared = SharedConnection::new();
        assert_eq!(now(&shared), None);
        set_up(&shared, "first", true);
        assert_eq!(now(&shared), Some(("first", 1, 1)));
        assert!(shared.lost(1, false));
        assert_eq!((now(&shared), shared.take()), (None, None));
        set_up(&shared, "second", true);
        assert_eq!(now(&shared), Some(("second", 2, 2)));
    }

    #[test]
    fn a_report_about_an_earlier_connection_or_a_known_loss_is_old_news() {
        let shared = SharedConnection::new();
        set_up(&shared, "first", true);
        assert!(shared.lost(1, false) && !shared.lost(1, false));
        set_up(&shared, "second", true);
        assert!(!shared.lost(1, false));
        assert_eq!(now(&shared), Some(("second", 2, 2)));
    }

    #[test]
    fn a_loss_of_the_stream_leaves_the_connection_and_begins_an_epoch() {
        let shared = SharedConnection::new();
        set_up(&shared, "only", true);
        assert!(shared.lost(1, true) && now(&shared).is_none());
        assert_eq!(shared.take(), Some("only"));
        set_up(&shared, "only", false);
        assert_eq!(now(&shared), Some(("only", 1, 2)));
    }

    #[test]
    fn waiting_ends_with_the_next_epoch_or_with_the_generation() {
        let shared = SharedConnection::new();
        assert!(shared.up_beyond(None).now_or_never().is_none());
        set_up(&shared, "only", true);
        assert!(shared.up_beyond(None).now_or_never().is_some());
        assert!(shared.up_beyond(Some(1)).now_or_never().is_none());
        assert!(shared.gone(1).now_or_never().is_none());
        assert!(shared.lost(1, true) && shared.gone(1).now_or_never().is_some());
        set_up(&shared, "only", false);
        assert!(shared.up_beyond(Some(1)).now_or_never().is_some());
    }
}
