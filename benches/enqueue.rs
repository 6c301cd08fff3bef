//! Measures the producer. One or 50 tasks share a client, as in a service, and each call of
//! `enqueue` sends one job with its own id. `enqueue_all` is measured with large batches.
//!
//! Before the measurement some calls are made to warm up. One task is compared with a bare loop of one
//! XADD at a time. The others are compared with XADD, pipelined by 64.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dm_jobqueue::{Client, RedisConfig};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::TIME_LIMIT;
use super::backlog::{Queue, job};
use super::bench::{Bench, Subject};
use super::limit::{self, JOBS_PER_S, rate};
use super::program::NOOP;
use super::redis::Redis;

const LIMIT_JOBS: usize = 400_000;
const ONE_TASK_JOBS: usize = 30_000;
const MANY_TASKS_JOBS: usize = 200_000;
pub(crate) const MANY_TASKS: usize = 50;
/// How many jobs are in one call of `enqueue_all`.
const BATCH: usize = 10_000;
/// The longest time of one call.
const DEADLINE: Duration = Duration::from_secs(10);

/// Measures the figures that the command line asks for.
pub(crate) fn run(bench: &mut Bench) {
    let redis = Redis::start();
    let limit_jobs = bench.size(LIMIT_JOBS);
    let (one, many) = (bench.size(ONE_TASK_JOBS), bench.size(MANY_TASKS_JOBS));
    let producer = Producer::new(&redis, redis.addr());
    let limit = || limit::xadd(&redis, limit_jobs);
    let one_by_one = || limit::xadd_one_by_one(&redis, &redis.addr(), one);
    bench.compare(
        Subject::new("limit.xadd.one_by_one", JOBS_PER_S, one_by_one),
        vec![Subject::new("enqueue.client.t1", JOBS_PER_S, || {
            producer.enqueue(one, 1)
        })],
    );
    let subjects = vec![
        Subject::new("enqueue.client.t50", JOBS_PER_S, || {
            producer.enqueue(many, MANY_TASKS)
        }),
        Subject::new("enqueue.batch", JOBS_PER_S, || {
            producer.enqueue_batches(many)
        }),
    ];
    bench.compare(Subject::new("limit.xadd", JOBS_PER_S, limit), subjects);
}

/// A client of the queue, with the runtime that its tasks run on.
pub(crate) struct Producer<'a> {
    redis: &'a Redis,
    runtime: Runtime,
    client: Client,
}

impl<'a> Producer<'a> {
    /// A client that reaches `redis` at `addr`, which may be the address of a proxy.
    pub(crate) fn new(redis: &'a Redis, addr: String) -> Self {
        let config = RedisConfig {
            addr,
            ..RedisConfig::default()
        };
        let runtime = Runtime::new().unwrap();
        let client = runtime.block_on(async {
            let client = Client::new(&config, "default").unwrap();
            let connected = timeout(TIME_LIMIT, client.connected()).await;
            connected.expect("no connection").unwrap();
            client
        });
        Self {
            redis,
            runtime,
            client,
        }
    }

    /// Enqueues in calls of [`BATCH`] jobs, one call after the other. Returns the jobs a second.
    fn enqueue_batches(&self, jobs: usize) -> f64 {
        let batch: Vec<_> = (0..BATCH).map(|_| job(NOOP)).collect();
        let call = || {
            self.runtime
                .block_on(self.client.enqueue_all(&batch, DEADLINE))
        };
        self.redis.empty();
        call();
        self.redis.empty();
        let start = Instant::now();
        let calls = jobs.div_ceil(BATCH);
        for _ in 0..calls {
            assert!(call().iter().all(Result::is_ok));
        }
        let rate = rate(calls * BATCH, start);
        assert_eq!(Queue::default(self.redis).len(), calls * BATCH);
        rate
    }

    /// Enqueues one job a call, in several tasks. Returns the jobs a second.
    pub(crate) fn enqueue(&self, jobs: usize, tasks: usize) -> f64 {
        self.redis.empty();
        self.enqueue_all(jobs / 20, tasks);
        self.redis.empty();
        let start = Instant::now();
        let jobs = self.enqueue_all(jobs, tasks);
        let rate = rate(jobs, start);
        assert_eq!(Queue::default(self.redis).len(), jobs);
        rate
    }

    /// Enqueues the same number of jobs in each task, at least `jobs` in all. Returns how many.
    fn enqueue_all(&self, jobs: usize, tasks: usize) -> usize {
        let each = jobs.div_ceil(tasks);
        let client = Arc::new(self.client.clone());
        let task = |_| {
            let client = Arc::clone(&client);
            // A service's tasks run on the runtime's threads too.
            self.runtime.spawn(async move {
                for _ in 0..each {
                    client.enqueue(&job(NOOP), DEADLINE).await.unwrap();
                }
            })
        };
        let tasks: Vec<_> = (0..tasks).map(task).collect();
        let count = tasks.len();
        self.runtime.block_on(async {
            for task in tasks {
                task.await.unwrap();
            }
        });
        each * count
    }
}
