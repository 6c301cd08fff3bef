//! The shell scripts, in a session and a terminal of their own.
//!
//! `scripts/dev` runs the real programs and a real Redis. Its `cargo build` alone is played:
//! a build would replace the very programs that other tests are starting. What it leaves
//! behind is whatever process is left of its session.

mod arguments;
mod dev;
mod home;
mod library;
