//! Locks that a panic elsewhere does not spoil.
//!
//! The standard library marks a lock as poisoned when a thread panics while it holds the lock. Here
//! no code that can panic runs under a lock, so the mark means nothing, and every user of a lock
//! ignores it in the same way.

use std::sync::{LockResult, Mutex, MutexGuard, PoisonError};

/// Locks `mutex`.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    unpoisoned(mutex.lock())
}

/// What a wait on a condition variable, or another access to a lock, returned.
pub(crate) fn unpoisoned<T>(result: LockResult<T>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}
