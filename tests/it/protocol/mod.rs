//! Compares the scripts with a model of what they must do. A test makes random sequences of the
//! actions of clients, workers and operators, and of accidents. The real scripts run them on a real
//! Redis. After each step everything that Redis holds is compared with the model.
//!
//! Any worker tries anything on any entry that ever existed. A worker's own care would not let it
//! do that, so the fences are tested much more often. `tests/model` checks what that care achieves.
//! Time does not pass: a lease is an hour and is made to look ended, and a due time is written by
//! hand. The clock may go back.
//!
//! `PROTOCOL_SEED` replays a run, and `PROTOCOL_CASES` makes it longer.

mod look;
mod operators;
mod reference;
mod system;
mod transitions;

use std::sync::atomic::Ordering;

use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use proptest_state_machine::ReferenceStateMachine as _;

use self::reference::Reference;
use self::system::System;
use crate::support::{Clock, Redis};

/// The cases take about seven seconds on a busy machine. Each run takes other cases.
const CASES: u32 = 200;
const STEPS: std::ops::Range<usize> = 1..80;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_scripts_do_what_the_model_says() {
    let clock = Clock::new();
    let redis = Redis::builder().clock(&clock).start().await;
    let url = format!("redis://{}", redis.addr());
    let number = |name| std::env::var(name).ok()?.parse().ok();
    let seed: u64 = number("PROTOCOL_SEED").unwrap_or_else(|| fastrand::u64(..));
    let cases = number("PROTOCOL_CASES").map_or(CASES, |cases| u32::try_from(cases).unwrap());
    let run = tokio::task::spawn_blocking(move || run(&url, &clock, seed, cases));
    if let Err(failed) = run.await {
        std::panic::resume_unwind(failed.into_panic());
    }
}

fn run(url: &str, clock: &Clock, seed: u64, cases: u32) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    // A failure shows its seed and its sequence. They are enough to repeat it, so no file is kept.
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, random);
    let sequences = Reference::sequential_strategy(STEPS);
    let outcome = runner.run(&sequences, |(mut reference, transitions, seen)| {
        let mut system = System::connect(url, clock);
        system.compare(&reference);
        for transition in transitions {
            if let Some(seen) = &seen {
                seen.fetch_add(1, Ordering::SeqCst);
            }
            reference = Reference::apply(reference, &transition);
            system.apply(&transition, &reference);
            system.compare(&reference);
        }
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, (_, transitions, _))) => {
            panic!("PROTOCOL_SEED={seed}: {why}\nafter {transitions:#?}");
        }
        Err(TestError::Abort(why)) => panic!("PROTOCOL_SEED={seed}: {why}"),
    }
}
