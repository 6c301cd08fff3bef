//! What the usecases are built on: the queue, and the printing of lines.
//!
//! A program of somebody else's gets the queue alone. All other services are for the usecases of this
//! package's programs, so each has the line `#[cfg(feature = "programs")]`.

#[cfg(feature = "programs")]
pub(crate) mod delay_print_service;
pub(crate) mod jobqueue;
#[cfg(feature = "programs")]
pub(crate) mod line_writer;
#[cfg(feature = "programs")]
mod output_turn;
#[cfg(feature = "programs")]
pub(crate) mod output_watch;
