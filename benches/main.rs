//! Measures how fast the queue is, and compares it with what Redis itself can do.
//!
//! `cargo bench` measures everything. `cargo bench -- NAME` measures the figures whose names start
//! with NAME. `cargo bench -- plot` draws the plots from the last results. `BENCH_RUNS` is the
//! number of times that each figure is measured. `BENCH_QUICK=1` checks in two minutes that
//! everything works, with one run and a twentieth of the sizes. Its figures say nothing about
//! speed.
//!
//! The speed of a machine changes with time. So each measurement of a figure comes right after a
//! measurement of its limit. All traffic stays on this host, and every wait has a time limit.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement that cannot be taken panics, and its figure says so; the table is the output"
)]

mod backlog;
mod bench;
mod cost;
mod drain;
mod enqueue;
mod far;
mod far_producers;
mod growth;
mod http;
mod hub;
mod latency;
mod limit;
mod limit_delayed;
mod path;
mod plot;
mod process;
mod program;
mod proxy;
mod recovery;
mod redis;
mod report;
mod soak;
mod usage;
mod wire;
mod workers;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use bench::Bench;
use mimalloc::MiMalloc;

/// The programs have the same allocator.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The longest time of one wait in a measurement.
const TIME_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(1);

type Part = (&'static [&'static str], fn(&mut Bench));

/// Each part of the bench, with the beginnings of the names of its figures.
const PARTS: [Part; 15] = [
    (
        &["limit.xadd", "enqueue.client", "enqueue.batch"],
        enqueue::run,
    ),
    (&["limit.http", "enqueue.http"], http::run),
    (&["limit.drain", "drain", "delayed"], drain::run),
    (&["drain.server", "limit.drain.server"], drain::other_server),
    (&["pickup"], latency::pickup),
    (&["mixed"], latency::mixed),
    (&["lateness"], latency::lateness),
    (&["recovery"], recovery::run),
    (&["cost"], cost::run),
    (&["growth"], growth::run),
    (&["workers"], workers::run),
    (&["path"], path::run),
    (&["soak"], soak::run),
    (&["far.drain", "far.ahead"], far::run),
    (&["far.enqueue", "far.http"], far_producers::run),
];

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(program::VARIABLE) {
        return program::run(&name);
    }
    let (options, names): (Vec<_>, Vec<_>) = std::env::args()
        .skip(1)
        .partition(|arg| arg.starts_with('-'));
    if !options.iter().any(|option| option == "--bench") {
        println!("not measured: start it with `cargo bench`");
        return ExitCode::SUCCESS;
    }
    if names == ["plot"] {
        return plot::draw();
    }
    let everything = names.is_empty();
    let mut bench = Bench::new(names);
    println!("{}", bench.describe());
    for (figures, run) in PARTS {
        if figures.iter().any(|figure| bench.wants(figure)) {
            run(&mut bench);
        }
    }
    let complete = bench.report().finish();
    if everything && complete && !bench.quick() {
        return plot::draw();
    }
    ExitCode::from(u8::from(!complete))
}

/// Polls until there is a result.
///
/// # Panics
/// When there is no result within `limit`.
fn wait_for<T>(what: &str, limit: Duration, mut poll: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(result) = poll() {
            return result;
        }
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        thread::sleep(POLL);
    }
}
