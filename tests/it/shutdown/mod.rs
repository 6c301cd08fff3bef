//! "Stop" of `docs/operations.md`: what each signal does, which work a program finishes before it
//! ends, which jobs it gives back to the queue, how long it may take, and its exit status.

mod embedded;
mod server;
mod signals;
mod without_redis;
mod worker;
