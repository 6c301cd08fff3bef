//! Chaos from a seed. A run has one Redis that writes everything to its disk, one server, three
//! workers, and clients that register jobs with mixed delays. At random times every part is killed,
//! frozen, restarted, cut, stalled and strained, and operators make mistakes. Then everything is
//! healed, the queue drains, and the ledger judges. `./scripts/chaos --seconds 60 --seed 7` runs it
//! alone.

mod client;
mod faults;
mod hands;
mod kinds;
mod ledger;
mod record;
mod strains;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use self::client::client;
pub(crate) use self::kinds::KINDS;
use self::kinds::kinds;
use self::ledger::{Answer, Fault, Ledger, Print, Verdict};
use crate::support::{
    Clock, FaultProxy, LEASE, PATIENCE, Process, Redis, STREAM, SlowLine, eventually,
};

const WORKERS: usize = 3;
const CLIENTS: u64 = 4;
const CONCURRENCY: usize = 10;
/// `ahead` of the worker at each place. One that is killed leaves at most so many jobs beyond its slots
/// to run twice.
const AHEAD: [usize; WORKERS] = [0, 16, 512];
/// The most jobs that a worker holds: those that run or are not settled, and as many that it has
/// fetched.
const HELD: usize = 2 * (CONCURRENCY + 512);
/// The clients wait while more jobs than these are in the stream. Otherwise a job that a fault made run
/// again would wait behind so many others that the fault would no longer explain it.
const BACKLOG: u64 = 500;
/// How long an operator tries again while Redis is busy with its disk.
const INSISTS: Duration = Duration::from_secs(30);

struct Run {
    random: fastrand::Rng,
    kinds: Vec<&'static str>,
    clock: Clock,
    redis: Redis,
    server: Process,
    server_url: Arc<Mutex<String>>,
    proxies: Vec<FaultProxy>,
    lines: Vec<SlowLine>,
    /// All workers of the run. The indices of the living workers are in `alive`.
    workers: Vec<Process>,
    alive: [usize; WORKERS],
    /// The number of the next job.
    numbers: Arc<AtomicU64>,
    /// Whether the clients wait.
    full: Arc<AtomicBool>,
    /// Jobs that were added by the run and not by a client.
    added: Vec<(u64, Answer)>,
    faults: Vec<Fault>,
    happened: BTreeMap<&'static str, u32>,
    slowest_recovery: Duration,
    /// How far Redis' clock is ahead of the right time, and how far it was ahead at most.
    clock_ms: i64,
    latest_clock_ms: i64,
    /// The number of large entries, and the entries that have no dead letter yet.
    blobs: u32,
    unburied: BTreeSet<u32>,
}

impl Run {
    async fn start(seed: u64, kinds: Vec<&'static str>) -> Self {
        let clock = Clock::new();
        let redis = Redis::builder().durable().clock(&clock).start().await;
        let server = Process::server(&redis).start();
        server.wait_ready(PATIENCE).await;
        let server_url = Arc::new(Mutex::new(register_url(&server).await));
        let mut run = Self {
            random: fastrand::Rng::with_seed(seed),
            kinds,
            clock,
            redis,
            server,
            server_url,
            proxies: Vec::new(),
            lines: Vec::new(),
            workers: Vec::new(),
            alive: [0, 1, 2],
            numbers: Arc::new(AtomicU64::new(0)),
            full: Arc::default(),
            added: Vec::new(),
            faults: Vec::new(),
            happened: BTreeMap::new(),
            slowest_recovery: Duration::ZERO,
            clock_ms: 0,
            latest_clock_ms: 0,
            blobs: 0,
            unburied: BTreeSet::new(),
        };
        for place in 0..WORKERS {
            let proxy = run.redis.proxy().await;
            run.lines.push(SlowLine::to(proxy.addr()).await);
            run.proxies.push(proxy);
            let worker = run.worker(place);
            run.workers.push(worker);
        }
        run
    }

    fn worker(&self, place: usize) -> Process {
        Process::jobqueue(&self.redis)
            .envs(&[LEASE, ("APP__JOBQUEUE__SHUTDOWN_TIMEOUT", "2s")])
            .env("APP__JOBQUEUE__AHEAD", &AHEAD[place].to_string())
            .redis_addr(self.lines[place].addr())
            .small_pipes()
            .start()
    }

    /// Makes one of the kinds happen, and heals it before the return. The sleeps are the lengths of
    /// the faults, and no step waits for an event by sleeping.
    async fn fault(&mut self) {
        let kind = self.kinds[self.random.usize(..self.kinds.len())];
        let place = self.random.usize(..WORKERS);
        let length = Duration::from_millis(self.random.u64(50..4000));
        match kind {
            "worker killed" => self.worker_killed(place, length).await,
            "worker frozen" => self.worker_frozen(place, length).await,
            "worker stopped" => self.worker_stopped(place).await,
            "connections cut" => self.connections_cut(place).await,
            "clients killed" => self.clients_killed().await,
            "connections stalled" => self.connections_stalled(place, length).await,
            "redis killed" => self.redis_killed(length).await,
            "redis frozen" => self.redis_frozen(length).await,
            "scripts flushed" => self.scripts_flushed().await,
            "server killed" => self.server_killed().await,
            "large entries" => self.large_entries().await,
            "slow line" => self.slow_line(place, length).await,
            "stdout blocked" => self.stdout_blocked(place, length).await,
            "stderr blocked" => self.stderr_blocked(place, length).await,
            "answers not read" => self.answers_not_read(place, length).await,
            "clock stepped" => self.step_clock(),
            "clock stepped in a restart" => self.clock_stepped_in_a_restart(length).await,
            "consumer deleted" => self.consumer_deleted(place).await,
            "group set ahead and back" => self.group_set_ahead_and_back(length).await,
            "group destroyed" => self.group_destroyed().await,
            "state deleted" => self.state_deleted().await,
            "stream renamed and back" => self.stream_renamed_and_back(length).await,
            other => unreachable!("{other} is in the table and not here"),
        }
        *self.happened.entry(kind).or_default() += 1;
    }

    fn replace(&mut self, place: usize) {
        let worker = self.worker(place);
        self.alive[place] = self.workers.len();
        self.workers.push(worker);
    }

    /// Records a fault from `from` until now. It explains that jobs which this worker held run
    /// twice.
    fn explained_by(&mut self, worker: usize, from: Instant) {
        self.explained_by_loss(worker, from, None);
    }

    /// Records the same fault for a worker whose number of held jobs may be known.
    fn explained_by_loss(&mut self, worker: usize, from: Instant, held: Option<usize>) {
        self.faults.push(Fault {
            worker,
            from,
            to: Instant::now(),
            held,
        });
    }

    async fn limit_backlog(&self) {
        let length = self.redis.try_cmd(&["XLEN", STREAM]).await;
        let length = length.map(|length| redis::from_redis_value::<u64>(length).unwrap());
        self.full.store(
            length.is_ok_and(|length| length > BACKLOG),
            Ordering::Relaxed,
        );
    }

    /// Repeats a command until Redis has answered it. The command may run twice.
    async fn surely(&self, command: &[&str]) {
        eventually(format!("{command:?}"), INSISTS, async || {
            self.redis.try_cmd(command).await.ok()
        })
        .await;
    }

    /// Waits until the workers are ready after Redis is back, and records how long that took.
    async fn recovered(&mut self) {
        let back = Instant::now();
        for index in self.alive {
            self.workers[index].wait_ready(PATIENCE).await;
        }
        self.slowest_recovery = self.slowest_recovery.max(back.elapsed());
    }

    async fn ledger(&self, answers: BTreeMap<u64, Answer>) -> Ledger {
        let mut ledger = Ledger {
            answers,
            faults: self.faults.clone(),
            held: HELD,
            window: Duration::from_secs(10),
            ..Ledger::default()
        };
        for (worker, process) in self.workers.iter().enumerate() {
            for line in process.stdout() {
                // The last line of a killed worker may be cut off. Such a line does not count as
                // printed.
                if let Some((_, job)) = line.text.split_once("] job ").filter(|_| line.complete) {
                    let job = job.parse().unwrap();
                    ledger.prints.push(Print {
                        job,
                        worker,
                        at: line.at,
                    });
                }
            }
        }
        for (_, letter) in self.redis.dead_letters().await {
            // Foreign entries are not in the ledger, because no client registered them.
            if let Some(job) = letter.get("job") {
                let job: Value = serde_json::from_slice(job).unwrap();
                let message = job["payload"]["message"].as_str().unwrap();
                ledger
                    .dead
                    .insert(message.strip_prefix("job ").unwrap().parse().unwrap());
            }
        }
        ledger
    }
}

async fn register_url(server: &Process) -> String {
    format!(
        "http://{}/api/dm-jobqueue/register",
        server.http_addr().await
    )
}

async fn chaos(seconds: u64, seed: u64, kinds: Vec<&'static str>) {
    eprintln!("chaos: seed {seed}, {seconds} s, {} kinds", kinds.len());
    let began = Instant::now();
    let mut run = Run::start(seed, kinds).await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            tokio::spawn(client(
                run.server_url.clone(),
                run.numbers.clone(),
                run.full.clone(),
                stop.clone(),
            ))
        })
        .collect();
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        run.fault().await;
        tokio::time::sleep(Duration::from_millis(run.random.u64(50..800))).await;
        run.limit_backlog().await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut answers = BTreeMap::new();
    for client in clients {
        answers.extend(client.await.unwrap());
    }
    answers.extend(run.added.iter().copied());
    run.heal_clock();
    run.redis.drained(Duration::from_secs(60)).await;
    run.check_large_entries().await;
    // The last lines may still be on their way through the pipe.
    eventually("all lines are read", PATIENCE, async || {
        let ledger = run.ledger(answers.clone()).await;
        ledger.verdict().lost.is_empty().then_some(())
    })
    .await;
    let ledger = run.ledger(answers).await;
    if let Some(path) = std::env::var_os("CHAOS_RECORD") {
        std::fs::write(path, ledger.to_lines(began)).unwrap();
    }
    let verdict = ledger.verdict();
    report(&run, &ledger, &verdict);
    assert!(verdict.is_good(), "seed {seed}: {verdict:?}");
    let unburied = &run.unburied;
    assert!(
        unburied.is_empty(),
        "seed {seed}: large entries {unburied:?} are gone"
    );
}

fn report(run: &Run, ledger: &Ledger, verdict: &Verdict) {
    let count = |wanted| {
        ledger
            .answers
            .values()
            .filter(|answer| **answer == wanted)
            .count()
    };
    eprintln!(
        "faults: {} {:?}",
        run.happened.values().sum::<u32>(),
        run.happened
    );
    eprintln!(
        "jobs: {} accepted, {} refused, {} unknown; {} lines",
        count(Answer::Accepted),
        count(Answer::Refused),
        count(Answer::Unknown),
        ledger.prints.len()
    );
    eprintln!(
        "lost {}, unexpected {}, duplicates {} explained and {} not; slowest recovery {:?}",
        verdict.lost.len(),
        verdict.unexpected.len(),
        verdict.explained,
        verdict.unexplained.len(),
        run.slowest_recovery
    );
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[tokio::test]
async fn chaos_loses_nothing() {
    let list = std::env::var("CHAOS_KINDS").unwrap_or_else(|_| "all".to_owned());
    let (seconds, seed) = (variable("CHAOS_SECONDS", 40), variable("CHAOS_SEED", 1));
    chaos(seconds, seed, kinds(&list)).await;
}
