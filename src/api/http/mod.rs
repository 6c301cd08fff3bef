//! Serving HTTP on sockets: listening, accepting, and the limits on what a client may hold and for
//! how long. Nothing here knows which routes exist.
//!
//! A connection passes through `listen` and `serve` (with `connections`). `connections`, `pace` and
//! `stream` limit it, and `host` checks each of its requests before the router sees it.

mod connections;
mod host;
pub mod listen;
mod pace;
pub mod serve;
mod stream;
