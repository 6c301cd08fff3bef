//! Locks that a panic elsewhere does not spoil.
//!
//! The standard library marks a lock as poisoned when a thread panics while it holds the lock. Here
//! only a defect can panic under a lock, and then the panic itself stops the worker. The other parts
//! need their locks to end in order, so every user of a lock ignores the mark in the same way.

use std::sync::{LockResult, Mutex, MutexGuard, PoisonError};

/// Locks `mutex`.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    unpoisoned(mutex.lock())
}

/// What a wait on a condition variable, or another access to a lock, returned.
pub(crate) fn unpoisoned<T>(result: LockResult<T>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}
