//! The shell scripts, in a session and a terminal of their own.
//!
//! `scripts/dev` runs the real programs and a real Redis. Only its `cargo build` is replaced,
//! because a build would replace the programs that other tests are starting. After each run no
//! process of the session may be left.

mod arguments;
mod dev;
mod home;
mod library;
