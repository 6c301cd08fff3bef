//! Workers that die, and many workers at once.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::support::{
    Direction, GROUP, LEASE, PATIENCE, Process, Redis, STREAM, eventually, letter_of, test_job,
    within,
};

const LEASE_TIME: Duration = Duration::from_secs(2);
/// How soon the jobs of a dead worker run again: a lease and two seconds. A quiet machine needs
/// only the lease and the reclaim interval of a third of a second.
const TAKEOVER: Duration = Duration::from_secs(4);

/// A worker that lives long enough for the hold of a new queue to end. When it takes over a job
/// later, only the lease decides when.
async fn settled_worker(redis: &Redis, concurrency: &str) -> Process {
    let worker = Process::test_worker(redis)
        .envs(&[LEASE, ("APP__JOBQUEUE__CONCURRENCY", concurrency)])
        .named("survivor")
        .start();
    worker.wait_for_log("worker started", PATIENCE).await;
    eventually("the hold is over", PATIENCE, async || {
        let state = redis.state().await;
        let hold: u64 = state.get("reclaim_hold_ms")?.parse().ok()?;
        (redis.now_ms().await > hold).then_some(())
    })
    .await;
    worker
}

/// Halts a worker, and waits until its blocking read is over and can get no job any more.
async fn halt(redis: &Redis, worker: &Process) {
    worker.stop();
    eventually("its blocking read is over", PATIENCE, async || {
        let clients: String = redis.query(&["INFO", "clients"]).await;
        clients.contains("blocked_clients:0").then_some(())
    })
    .await;
}

/// Starts a worker that gets a job while `survivor` is halted.
async fn doomed_with_job(redis: &Redis, survivor: &Process, kind: &str, ms: u64) -> Process {
    halt(redis, survivor).await;
    let doomed = Process::test_worker(redis)
        .envs(&[LEASE])
        .named("doomed")
        .start();
    redis.add_test_job(kind, 1, ms).await;
    doomed
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    survivor.cont();
    doomed
}

#[tokio::test]
async fn a_job_of_a_killed_worker_runs_again_within_a_lease_and_two_seconds() {
    let redis = Redis::start().await;
    let survivor = settled_worker(&redis, "10").await;
    let doomed = doomed_with_job(&redis, &survivor, "hang", 0).await;
    doomed.kill();
    let killed = Instant::now();
    let start = survivor
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    let took = start.at - killed;
    assert!(took >= LEASE_TIME / 2, "the lease was respected: {took:?}");
    assert!(took <= TAKEOVER, "{took:?}");
    assert_eq!(redis.pending_entries().await[0].deliveries, 2);
}

#[tokio::test]
async fn a_busy_worker_takes_over_from_a_dead_one() {
    let redis = Redis::start().await;
    let survivor = settled_worker(&redis, "2").await;
    let doomed = doomed_with_job(&redis, &survivor, "hang", 0).await;
    doomed.kill();
    // There are always more short jobs waiting than the worker can run in this time.
    let mut n = 100;
    let taken_over = within(TAKEOVER, async || {
        while redis.xlen().await < 500 {
            n += 1;
            redis.add_test_job("sleep", n, 5).await;
        }
        (survivor.count("start 1") > 0).then_some(())
    });
    assert!(taken_over.await.is_some(), "{:?}", redis.backlog().await);
    assert!(redis.xlen().await > 100, "it was busy to the end");
}

#[tokio::test]
async fn a_worker_busy_with_long_jobs_takes_over_in_its_next_free_slot() {
    let redis = Redis::start().await;
    let survivor = settled_worker(&redis, "1").await;
    let doomed = doomed_with_job(&redis, &survivor, "hang", 0).await;
    doomed.kill();
    // Each job holds the one slot for longer than a reclaim interval.
    const SLOT: Duration = Duration::from_millis(500);
    for n in 2..40 {
        redis.add_test_job("sleep", n, 500).await;
    }
    survivor
        .wait_for_line(|line| line == "start 1", TAKEOVER + SLOT)
        .await;
    assert!(redis.xlen().await > 20, "the others were still waiting");
}

#[tokio::test]
async fn jobs_that_ran_and_were_not_acknowledged_run_once_more() {
    let redis = Redis::start().await;
    let proxy = redis.proxy().await;
    let survivor = settled_worker(&redis, "10").await;
    halt(&redis, &survivor).await;
    let doomed = Process::test_worker(&redis)
        .envs(&[LEASE])
        .redis_addr(proxy.addr())
        .start();
    for n in 1..=3 {
        redis.add_test_job("sleep", n, 1000).await;
    }
    let said = async |worker: &Process, what: &str| {
        for n in 1..=3 {
            let line = format!("{what} {n}");
            worker.wait_for_line(|text| text == line, PATIENCE).await;
        }
    };
    said(&doomed, "start").await;
    // Everything that the worker sends from now on is lost.
    proxy.set_stall(Direction::ClientToUpstream);
    survivor.cont();
    said(&doomed, "end").await;
    doomed.kill();
    let killed = Instant::now();
    assert_eq!(redis.pending().await, 3, "nothing was acknowledged");
    said(&survivor, "start").await;
    let took = killed.elapsed();
    assert!(took <= TAKEOVER, "{took:?}");
    redis.drained(PATIENCE).await;
    for n in 1..=3 {
        let start = format!("start {n}");
        assert_eq!((doomed.count(&start), survivor.count(&start)), (1, 1));
    }
}

#[tokio::test]
async fn a_job_whose_acknowledgement_got_no_answer_does_not_run_again() {
    let redis = Redis::start().await;
    let proxy = redis.proxy().await;
    let survivor = settled_worker(&redis, "10").await;
    halt(&redis, &survivor).await;
    let doomed = Process::test_worker(&redis)
        .envs(&[LEASE])
        .redis_addr(proxy.addr())
        .start();
    redis.add_test_job("sleep", 1, 200).await;
    doomed
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    proxy.set_stall(Direction::UpstreamToClient);
    doomed.wait_for_line(|line| line == "end 1", PATIENCE).await;
    redis.drained(PATIENCE).await;
    doomed.kill();
    survivor.cont();
    let again = within(LEASE_TIME + Duration::from_secs(1), async || {
        (survivor.count("start 1") > 0).then_some(())
    });
    assert!(again.await.is_none());
}

#[tokio::test]
async fn deliveries_that_had_not_started_are_taken_over_too() {
    let redis = Redis::start().await;
    let survivor = settled_worker(&redis, "20").await;
    halt(&redis, &survivor).await;
    let doomed = Process::test_worker(&redis).envs(&[LEASE]).start();
    for n in 1..=10 {
        redis.add_test_job("hang", n, 0).await;
    }
    doomed.wait_for_lines(2, PATIENCE).await;
    doomed.kill();
    survivor.cont();
    for n in 1..=10 {
        let start = format!("start {n}");
        survivor
            .wait_for_line(|line| line == start, TAKEOVER + PATIENCE)
            .await;
    }
}

#[tokio::test]
async fn eight_workers_share_the_work_and_run_each_job_once() {
    let redis = Redis::start().await;
    let workers = [(); 8].map(|()| Process::jobqueue(&redis).start());
    for worker in &workers {
        worker.wait_ready(PATIENCE).await;
    }
    for n in 0..800 {
        let job = format!(r#"{{"type":"demo:delay_print","payload":{{"message":"job {n}"}}}}"#);
        redis.add_job(&job).await;
    }
    redis.drained(PATIENCE).await;
    let mut printed: HashMap<String, usize> = HashMap::new();
    for line in workers.iter().flat_map(Process::stdout) {
        let (_, message) = line.text.split_once("] ").unwrap();
        *printed.entry(message.to_owned()).or_default() += 1;
    }
    assert_eq!(printed.len(), 800);
    assert!(printed.values().all(|times| *times == 1));
    let busy = workers.iter().filter(|worker| !worker.stdout().is_empty());
    assert!(busy.count() > 1, "one worker did it all");
    let mut names: Vec<_> = redis
        .consumers()
        .await
        .into_iter()
        .map(|each| each.name)
        .collect();
    names.dedup();
    assert!(names.len() > 1 && names.len() <= 8, "{names:?}");
}

#[tokio::test]
async fn a_worker_leaves_the_group_when_it_stops() {
    let redis = Redis::start().await;
    let worker = Process::jobqueue(&redis).start();
    // Redis 7.0 lists a consumer only after its first delivery.
    redis.add_job(r#"{"type":"demo:delay_print"}"#).await;
    redis.drained(PATIENCE).await;
    assert_eq!(redis.consumers().await.len(), 1);
    worker.term();
    worker.wait_exit(PATIENCE).await;
    assert!(redis.consumers().await.is_empty());
}

#[tokio::test]
async fn dead_consumers_go_and_nothing_pending_goes_with_them() {
    let redis = Redis::start().await;
    let env = [
        ("APP__JOBQUEUE__LEASE", "1s"),
        ("APP__JOBQUEUE__CONCURRENCY", "1"),
    ];
    let mut n = 0;
    for _ in 0..6 {
        let batch = [(); 5].map(|()| Process::test_worker(&redis).envs(&env).start());
        n += 1;
        redis.add_test_job("quiet", n, 0).await;
        for worker in &batch {
            worker.wait_for_log("worker started", PATIENCE).await;
        }
        n += 1;
        redis.add_test_job("sleep", n, 300).await;
        for worker in batch {
            worker.kill();
        }
    }
    let survivor = Process::test_worker(&redis).envs(&env).start();
    eventually("the dead are gone", Duration::from_secs(20), async || {
        (redis.consumers().await.len() == 1).then_some(())
    })
    .await;
    redis.drained(PATIENCE).await;
    survivor
        .wait_for_log("removed consumers of processes that are gone", PATIENCE)
        .await;
}

#[tokio::test]
async fn a_dead_consumer_that_has_something_pending_stays() {
    let redis = Redis::start().await;
    let worker = settled_worker(&redis, "1").await;
    // The one slot is busy, so the worker claims nothing.
    redis.add_test_job("hang", 1, 0).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    redis
        .cmd(&["XGROUP", "CREATECONSUMER", STREAM, GROUP, "empty"])
        .await;
    let id = redis.add_test_job("sleep", 2, 0).await;
    redis
        .cmd(&["XREADGROUP", "GROUP", GROUP, "full", "STREAMS", STREAM, ">"])
        .await;
    eventually(
        "the empty one is gone",
        Duration::from_secs(15),
        async || {
            let names = redis.consumers().await;
            (!names.iter().any(|consumer| consumer.name == "empty")).then_some(())
        },
    )
    .await;
    let entry = redis
        .pending_entries()
        .await
        .into_iter()
        .find(|entry| entry.id == id)
        .unwrap();
    assert_eq!(entry.consumer, "full");
}

#[tokio::test]
async fn a_stale_entry_behind_a_hundred_thousand_fresh_ones_is_found() {
    let redis = Redis::start().await;
    let script = "redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
        for _ = 1, 100000 do redis.call('XADD', KEYS[1], '*', 'job', '{}') end
        local last = redis.call('XADD', KEYS[1], '*', 'job', ARGV[2])
        redis.call('XREADGROUP', 'GROUP', ARGV[1], 'fresh', 'STREAMS', KEYS[1], '>')
        return last";
    let job = test_job("sleep", 7, 0);
    let stale: String = redis
        .query(&["EVAL", script, "1", STREAM, GROUP, &job])
        .await;
    assert_eq!(redis.pending().await, 100_001);
    let worker = Process::test_worker(&redis)
        .env("APP__JOBQUEUE__LEASE", "12s")
        .start();
    worker.wait_for_log("worker started", PATIENCE).await;
    redis
        .cmd(&[
            "XCLAIM", STREAM, GROUP, "dead", "0", &stale, "IDLE", "3600000", "JUSTID",
        ])
        .await;
    // The hold of a new queue (4 s + 0.5 s + 1 s), and the time to go through the whole list.
    let deadline = Duration::from_millis(5500) + Duration::from_secs(4);
    worker
        .wait_for_line(|line| line == "start 7", deadline)
        .await;
}

#[tokio::test]
async fn an_abandoned_entry_that_no_reply_can_carry_keeps_no_other_from_being_taken_over() {
    let redis = Redis::start().await;
    let large = format!(
        r#"{{"type":"test:sleep","payload":"{}"}}"#,
        "x".repeat(2 << 20)
    );
    let mut jobs: Vec<String> = (0..20).map(|n| test_job("sleep", n, 0)).collect();
    jobs.insert(5, large);
    let ids = redis.add_abandoned(&jobs, 1).await;
    let worker = Process::test_worker(&redis).envs(&[LEASE]).start();
    for n in 0..20 {
        let end = format!("end {n}");
        worker.wait_for_line(|line| line == end, PATIENCE).await;
    }
    let letter = letter_of(&redis, &ids[5]).await;
    assert_eq!(letter["job"], jobs[5].as_bytes());
}
