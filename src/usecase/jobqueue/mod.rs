//! Rules of the jobs that the workers run.

pub mod delay_print;
