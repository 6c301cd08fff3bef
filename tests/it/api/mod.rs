//! The README's "API": what clients of the server are promised, and what no client can do
//! to the others. Each status and its answer, which host and which page may ask, how long a
//! connection is kept, how a client that gets stuck is closed. The producer is here as well:
//! it is the way in for Rust programs.

mod addresses;
mod cross_site;
mod host;
mod keep_alive;
mod openapi;
mod producer;
mod register;
mod slow_clients;
mod stuck_clients;
