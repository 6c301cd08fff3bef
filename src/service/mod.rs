//! What the usecases are built on: the queue, and the printing of lines.

pub mod delay_print_service;
pub mod jobqueue;
pub mod line_writer;
mod output_turn;
pub mod output_watch;
