//! What the usecases are built on: the queue, and the printing of lines.

pub(crate) mod delay_print_service;
pub(crate) mod jobqueue;
pub(crate) mod line_writer;
mod output_turn;
pub(crate) mod output_watch;
