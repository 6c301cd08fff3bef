//! Rules of the jobs that the workers run.

pub(crate) mod delay_print;
