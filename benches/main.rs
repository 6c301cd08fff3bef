//! How fast the queue is, beside how fast Redis is.
//!
//! `cargo bench` measures everything, `cargo bench -- NAME` the figures whose names start
//! with NAME, and `cargo bench -- plot` draws the plots of the last results anew.
//! `BENCH_RUNS` says how often each figure is taken, and `BENCH_QUICK=1` checks in a
//! minute that all of it works: one run, a twentieth of the sizes, no figures to quote.
//!
//! A bar that a figure is held against is taken right before it, each time anew, since
//! a machine's speed drifts. Nothing leaves the host, and everything ends in bounded time.

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
mod growth;
mod http;
mod latency;
mod limit;
mod plot;
mod process;
mod program;
mod recovery;
mod redis;
mod report;
mod wire;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use bench::Bench;
use mimalloc::MiMalloc;

/// As in the programs.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// No single measurement takes longer.
const TIME_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(1);

type Part = (&'static [&'static str], fn(&mut Bench));

/// The parts, by the beginnings of the figures that they measure.
const PARTS: [Part; 9] = [
    (
        &["limit.xadd", "enqueue.client", "enqueue.batch"],
        enqueue::run,
    ),
    (&["limit.http", "enqueue.http"], http::run),
    (&["limit.drain", "drain", "delayed"], drain::run),
    (&["pickup"], latency::pickup),
    (&["mixed"], latency::mixed),
    (&["lateness"], latency::lateness),
    (&["recovery"], recovery::run),
    (&["cost"], cost::run),
    (&["growth"], growth::run),
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
/// After `limit` without one.
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
