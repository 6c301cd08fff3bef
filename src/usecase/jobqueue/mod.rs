//! Rules of the jobs.
