//! The README's "API": what clients of the server are promised, and that no client can harm the
//! others. The tests check each status and its body, which host and which page may send requests,
//! how long a connection is kept, and how a stuck client is closed. The producer is here as well,
//! because Rust programs enqueue jobs through it.

mod addresses;
mod cross_site;
mod host;
mod keep_alive;
mod openapi;
mod producer;
mod register;
mod slow_clients;
mod stuck_clients;
