//! What the usecases are built on: the queue, and the printing of lines.

#[cfg(feature = "programs")]
pub(crate) mod delay_print_service;
pub(crate) mod jobqueue;
#[cfg(feature = "programs")]
pub(crate) mod line_writer;
#[cfg(feature = "programs")]
mod output_turn;
#[cfg(feature = "programs")]
pub(crate) mod output_watch;
