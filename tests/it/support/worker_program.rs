//! A worker program whose handlers misbehave as a test asks: this test binary, started
//! again as a child process.
//!
//! A job's payload is `{"n": 1, "ms": 500}`. Most handlers print `start 1`, and `end 1`
//! when they come to their end; both lines have been written when the handler goes on.
//!
//! | type | does |
//! |---|---|
//! | `test:quiet` | nothing |
//! | `test:clock` | prints `clock 1` and the wall clock in ms: the clock of a Redis on this host |
//! | `test:sleep` | sleeps for `ms`, and logs `slept` at debug level |
//! | `test:block` | blocks its executor thread for `ms`, sleeping |
//! | `test:burn` | blocks its executor thread for `ms`, burning CPU |
//! | `test:hang` | never ends |
//! | `test:fail` | fails in the attempts before attempt number `ms` (from 0), then ends |
//! | `test:malformed` | cannot make sense of its payload |
//! | `test:panic` | panics |
//! | `test:abort` | aborts the process |
//! | `test:long` | sleeps for `ms`, with a timeout of 30 s |
//! | `test:short` | sleeps for `ms`, with a timeout of 300 ms and pauses of 100 ms |
//! | `test:limited` | sleeps for `ms`; two of them run at once |
//! | `test:slow_fail`, `test:slow_malformed`, `test:slow_panic` | sleeps for `ms`, prints `ending 1`, then does so (`slow_fail` in attempts below `limit`) |

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dm_jobqueue::program::{self, LineWriter, inside};
use dm_jobqueue::{Context, Exit, JobError, Mux, RetryConfig};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::{Process, ProcessBuilder, Redis};

/// This variable makes the test binary run as the worker program.
const VARIABLE: &str = "TEST_WORKER_PROGRAM";
/// This variable makes the program a worker that does not know delay-print jobs.
pub(crate) const NO_DELAY_PRINT: &str = "TEST_WORKER_NO_DELAY_PRINT";
const NAME: &str = "support::worker_program::worker_program";

impl Process {
    /// The builder of a worker with the handlers that are listed above. The worker uses this Redis.
    pub(crate) fn test_worker(redis: &Redis) -> ProcessBuilder {
        ProcessBuilder::program(std::env::current_exe().unwrap())
            .redis(redis)
            .args(&[NAME, "--exact", "--ignored", "--nocapture"])
            .env(VARIABLE, "1")
            .named("test worker")
    }
}

const SHORT: Duration = Duration::from_millis(300);
const SHORT_PAUSES: RetryConfig = RetryConfig {
    initial: Duration::from_millis(100),
    factor: 1.0,
    max: Duration::from_millis(100),
    jitter: 0.0,
};

#[derive(Deserialize)]
struct Payload {
    n: Value,
    #[serde(default)]
    ms: u64,
    #[serde(default)]
    limit: u64,
}

#[test]
#[ignore = "not a test: the program that other tests start"]
fn worker_program() {
    if std::env::var_os(VARIABLE).is_none() {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let exit = runtime
        .block_on(inside::run_jobqueue(add_handlers))
        .unwrap();
    inside::flush();
    // The program ends as the real one does, without waiting for handlers that do not yield.
    std::process::exit(match exit {
        Exit::Clean => 0,
        Exit::CutOff => 1,
        Exit::Unfit => 74,
        _ => 70,
    });
}

fn add_handlers(mux: &mut Mux, out: &LineWriter) {
    if std::env::var_os(NO_DELAY_PRINT).is_none() {
        program::register(mux, out);
    }
    mux.handle("test:quiet", async |_: IgnoredAny, _| Ok(()));
    mux.handle("test:refuse", async |_: IgnoredAny, _| {
        Err::<(), _>(JobError::Failed("refused as asked".to_owned()))
    });
    let clock = out.clone();
    mux.handle("test:clock", move |payload, _| {
        tell_the_time(payload, clock.clone())
    });
    for name in [
        "slow_fail",
        "slow_malformed",
        "slow_panic",
        "sleep",
        "block",
        "burn",
        "hang",
        "fail",
        "malformed",
        "panic",
        "abort",
        "short",
        "long",
        "limited",
    ] {
        let out = out.clone();
        let options = mux.handle(&format!("test:{name}"), move |payload, context| {
            misbehave(name, payload, context, out.clone())
        });
        match name {
            "short" => drop(options.timeout(SHORT).retry(SHORT_PAUSES)),
            "long" => drop(options.timeout(Duration::from_secs(30))),
            "limited" => drop(options.concurrency(2)),
            _ => {}
        }
    }
}

async fn tell_the_time(payload: Payload, out: LineWriter) -> Result<(), JobError> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis();
    out.write(format!("clock {} {now}\n", payload.n))
        .wait()
        .await
        .unwrap();
    Ok(())
}

async fn misbehave(
    name: &str,
    payload: Payload,
    context: Context,
    out: LineWriter,
) -> Result<(), JobError> {
    let Payload { n, ms, limit } = payload;
    let print = async |what: &str| out.write(format!("{what} {n}\n")).wait().await.unwrap();
    print("start").await;
    let time = Duration::from_millis(ms);
    match name {
        "sleep" | "short" | "long" | "limited" => {
            tokio::time::sleep(time).await;
            tracing::debug!("slept");
        }
        "block" => std::thread::sleep(time),
        "burn" => {
            let start = Instant::now();
            while start.elapsed() < time {
                std::hint::spin_loop();
            }
        }
        "hang" => std::future::pending().await,
        "fail" if u64::from(context.attempt()) < ms => {
            return Err(JobError::Failed("failed as asked".to_owned()));
        }
        "malformed" => return malformed(),
        "panic" => panic!("panicked as asked"),
        "slow_fail" | "slow_malformed" | "slow_panic" => {
            tokio::time::sleep(time).await;
            print("ending").await;
            match name {
                "slow_malformed" => return malformed(),
                "slow_panic" => panic!("panicked as asked"),
                _ if u64::from(context.attempt()) < limit => {
                    return Err(JobError::Failed("failed as asked".to_owned()));
                }
                _ => {}
            }
        }
        "abort" => std::process::abort(),
        _ => {}
    }
    print("end").await;
    Ok(())
}

fn malformed() -> Result<(), JobError> {
    Err(JobError::Malformed("malformed as asked".to_owned()))
}
