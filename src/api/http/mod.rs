//! Serving HTTP on sockets: the accept loop, and the limits on what a client may hold and for how
//! long. Nothing here knows which routes exist.
//!
//! `listen` opens the sockets (`sockets` knows the special hosts), and `serve` runs them.
//! `acceptor` takes new connections, `connections` keeps room for them, and `connection` serves
//! one of them: `client_stream`, `request_timer` and `turn` limit what its client may do, and
//! `host` checks each request before the router sees it.

mod acceptor;
mod client_stream;
mod connection;
mod connections;
mod host;
pub mod listen;
mod request_timer;
pub mod serve;
mod sockets;
mod turn;
