//! Seeded chaos: one Redis that writes everything down, one server, three workers, clients
//! that register jobs with mixed delays, and at random times everything is killed,
//! frozen, restarted, cut and stalled. Then all is healed, the queue drains, and the
//! ledger judges. `./scripts/chaos --seconds 60 --seed 7` runs it by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::ledger::{Answer, Fault, Ledger, Print};
use crate::support::{Direction, FaultProxy, LEASE, PATIENCE, Process, Redis, cut, eventually};

const WORKERS: usize = 3;
const CLIENTS: u64 = 4;
const CONCURRENCY: usize = 10;
/// Slots, and what a worker fetches ahead and has not settled at most.
const HELD: usize = 2 * (CONCURRENCY + 512);

struct Run {
    random: fastrand::Rng,
    redis: Redis,
    server: Process,
    server_url: Arc<Mutex<String>>,
    proxies: Vec<FaultProxy>,
    /// Every worker that ever was, the living ones by their place in `alive`.
    workers: Vec<Process>,
    alive: [usize; WORKERS],
    faults: Vec<Fault>,
    kinds: BTreeMap<&'static str, u32>,
    slowest_recovery: Duration,
}

impl Run {
    async fn start(seed: u64) -> Self {
        let redis = Redis::durable().await;
        let server = Process::server(&redis).start();
        server.wait_ready(PATIENCE).await;
        let server_url = Arc::new(Mutex::new(register_url(&server).await));
        let mut run = Self {
            random: fastrand::Rng::with_seed(seed),
            redis,
            server,
            server_url,
            proxies: Vec::new(),
            workers: Vec::new(),
            alive: [0, 1, 2],
            faults: Vec::new(),
            kinds: BTreeMap::new(),
            slowest_recovery: Duration::ZERO,
        };
        for place in 0..WORKERS {
            run.proxies.push(run.redis.proxy().await);
            let worker = run.worker(place);
            run.workers.push(worker);
        }
        run
    }

    fn worker(&self, place: usize) -> Process {
        Process::jobqueue(&self.redis)
            .envs(&[LEASE, ("APP__JOBQUEUE__SHUTDOWN_TIMEOUT", "2s")])
            .redis_addr(self.proxies[place].addr())
            .start()
    }

    /// One fault, healed before it returns. Sleeps are its lengths, and nothing waits on
    /// them.
    async fn fault(&mut self) {
        let place = self.random.usize(..WORKERS);
        let length = Duration::from_millis(self.random.u64(50..4000));
        let kind = match self.random.u32(..3) {
            0 => self.worker_fault(place, length).await,
            1 => self.network_fault(place, length).await,
            _ => self.server_fault(length).await,
        };
        *self.kinds.entry(kind).or_default() += 1;
    }

    async fn worker_fault(&mut self, place: usize, length: Duration) -> &'static str {
        let worker = self.alive[place];
        let from = Instant::now();
        let kind = match self.random.u32(..3) {
            0 => {
                self.workers[worker].kill();
                tokio::time::sleep(length / 4).await;
                self.replace(place);
                "worker killed"
            }
            1 => {
                self.workers[worker].stop();
                tokio::time::sleep(length).await;
                self.workers[worker].cont();
                "worker frozen"
            }
            _ => {
                // In time for its jobs, so that this explains no duplicate.
                self.workers[worker].term();
                self.workers[worker].wait_exit(PATIENCE).await;
                self.replace(place);
                return "worker stopped";
            }
        };
        let to = Instant::now();
        self.faults.push(Fault { worker, from, to });
        kind
    }

    async fn network_fault(&mut self, place: usize, length: Duration) -> &'static str {
        match self.random.u32(..3) {
            0 => {
                cut(&self.proxies[place]).await;
                "connections cut"
            }
            1 => {
                self.redis
                    .cmd(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
                    .await;
                "clients killed"
            }
            _ => {
                let from = Instant::now();
                let direction = if self.random.bool() {
                    Direction::UpstreamToClient
                } else {
                    Direction::ClientToUpstream
                };
                self.proxies[place].set_stall(direction);
                tokio::time::sleep(length).await;
                cut(&self.proxies[place]).await;
                // Renewals did not get through either.
                let (worker, to) = (self.alive[place], Instant::now());
                self.faults.push(Fault { worker, from, to });
                "connections stalled"
            }
        }
    }

    async fn server_fault(&mut self, length: Duration) -> &'static str {
        match self.random.u32(..4) {
            0 => {
                self.redis.kill();
                tokio::time::sleep(length / 4).await;
                self.redis.up().await;
                self.recovered().await;
                "redis killed"
            }
            1 => {
                self.redis.freeze();
                tokio::time::sleep(length).await;
                self.redis.resume();
                self.recovered().await;
                "redis frozen"
            }
            2 => {
                // Its disk may keep it from answering: then there was no flush.
                drop(self.redis.try_cmd(&["SCRIPT", "FLUSH"]).await);
                "scripts flushed"
            }
            _ => {
                self.server.kill();
                self.server = Process::server(&self.redis).start();
                *self.server_url.lock().unwrap() = register_url(&self.server).await;
                "server killed"
            }
        }
    }

    fn replace(&mut self, place: usize) {
        let worker = self.worker(place);
        self.alive[place] = self.workers.len();
        self.workers.push(worker);
    }

    /// How long the workers take to be ready after Redis is back.
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
                // The last line of a killed worker may be cut off: it was not printed.
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
            let job: Value = serde_json::from_slice(&letter["job"]).unwrap();
            let message = job["payload"]["message"].as_str().unwrap();
            ledger
                .dead
                .insert(message.strip_prefix("job ").unwrap().parse().unwrap());
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

/// Registers jobs until told to stop; each number is used once.
async fn client(
    url: Arc<Mutex<String>>,
    numbers: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> Vec<(u64, Answer)> {
    let http = reqwest::Client::builder()
        .timeout(Duration::from_secs(5))
        .build()
        .unwrap();
    let mut answers = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let n = numbers.fetch_add(1, Ordering::Relaxed);
        let delay = ["0s", "0s", "50ms", "300ms", "2s"][usize::try_from(n % 5).unwrap()];
        let body = json!({"message": format!("job {n}"), "delay": delay}).to_string();
        let target = url.lock().unwrap().clone();
        let answer = match http.post(target).body(body).send().await {
            Ok(reply) if reply.status() == 201 => Answer::Accepted,
            Ok(reply) if reply.status() == 503 => {
                let body = reply.text().await.unwrap_or_default();
                if body.contains("unknown") {
                    Answer::Unknown
                } else {
                    Answer::Refused
                }
            }
            Ok(reply) => panic!("{} is no documented answer", reply.status()),
            Err(error) if error.is_connect() => Answer::Refused,
            Err(_) => Answer::Unknown,
        };
        answers.push((n, answer));
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    answers
}

async fn chaos(seconds: u64, seed: u64) {
    eprintln!("chaos: seed {seed}, {seconds} s");
    let began = Instant::now();
    let mut run = Run::start(seed).await;
    let (numbers, stop) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            tokio::spawn(client(
                run.server_url.clone(),
                numbers.clone(),
                stop.clone(),
            ))
        })
        .collect();
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        run.fault().await;
        tokio::time::sleep(Duration::from_millis(run.random.u64(50..800))).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut answers = BTreeMap::new();
    for client in clients {
        answers.extend(client.await.unwrap());
    }
    run.redis.drained(Duration::from_secs(60)).await;
    // What was printed last may still be on its way through the pipe.
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
    let count = |wanted| {
        ledger
            .answers
            .values()
            .filter(|answer| **answer == wanted)
            .count()
    };
    eprintln!(
        "faults: {} {:?}",
        run.kinds.values().sum::<u32>(),
        run.kinds
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
    assert!(verdict.is_good(), "seed {seed}: {verdict:?}");
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[tokio::test]
async fn chaos_loses_nothing() {
    chaos(variable("CHAOS_SECONDS", 60), variable("CHAOS_SEED", 1)).await;
}
