//! Redis away: at the start, in the middle, for a while, for good and back empty,
//! frozen, half-open, or losing a reply.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    Delay, Direction, GROUP, LEASE, PATIENCE, Process, Redis, STATE, STREAM, TestApp, cut,
    eventually, within,
};

/// How soon a queue goes on after Redis is back, by the fault matrix, and what a busy
/// machine may add to it.
const RESUME: Duration = Duration::from_millis(1500);
const SLACK: Duration = Duration::from_millis(1500);

/// Starts so many of the messages that were printed, each counted.
fn printed(workers: &[Process]) -> HashMap<String, usize> {
    let mut printed = HashMap::new();
    for line in workers.iter().flat_map(Process::stdout) {
        if let Some((_, message)) = line.text.split_once("] ") {
            *printed.entry(message.to_owned()).or_default() += 1;
        }
    }
    printed
}

#[tokio::test]
async fn both_programs_start_without_redis_and_go_on_when_it_comes() {
    let app = TestApp::with(Redis::reserve(), &[]).await;
    let worker = app.worker().start();
    for process in [&app.server, &worker] {
        assert_eq!(process.get("/health").await.0, 200);
        process.wait_not_ready(PATIENCE).await;
    }
    let (status, body, headers) = app.register(json!({"delay": "0s"})).await;
    assert_eq!(status, 503);
    assert_eq!(headers["retry-after"], "1");
    assert_eq!(
        body["detail"],
        "job queue service is unavailable: Redis is not connected"
    );

    app.redis.up().await;
    let back = Instant::now();
    eventually("a job is accepted", RESUME + SLACK, async || {
        let (status, ..) = app
            .register(json!({"delay": "0s", "message": "first"}))
            .await;
        (status == 201).then_some(())
    })
    .await;
    worker
        .wait_for_line(|line| line.ends_with("first"), RESUME + SLACK)
        .await;
    assert!(back.elapsed() < RESUME + SLACK);
    worker.wait_ready(PATIENCE).await;
}

#[tokio::test]
async fn an_outage_is_one_line_at_each_end_and_costs_two_connections_a_second() {
    let redis = Redis::start().await;
    let proxy = redis.proxy().await;
    let worker = Process::jobqueue(&redis).redis_addr(proxy.addr()).start();
    worker.wait_ready(PATIENCE).await;
    let mark = worker.log_mark();
    redis.kill();
    worker
        .wait_for_log_since(mark, "redis is unavailable", PATIENCE)
        .await;
    let (before, cpu_before, start) = (
        proxy.stats().connections_accepted,
        cpu_ms(worker.pid()),
        Instant::now(),
    );
    // Long enough to count attempts in.
    let ended = within(Duration::from_secs(5), async || worker.exited());
    assert!(ended.await.is_none());
    let attempts = proxy.stats().connections_accepted - before;
    let seconds = start.elapsed().as_secs();
    assert!(
        (5..=2 * seconds + 2).contains(&attempts),
        "{attempts} in {seconds} s"
    );
    let cpu = cpu_ms(worker.pid()) - cpu_before;
    assert!(cpu <= 250, "{cpu} ms of CPU in {seconds} s");
    redis.up().await;
    worker
        .wait_for_log_since(mark, "redis is available again", PATIENCE)
        .await;
    let lines: Vec<_> = worker.stderr().split_off(mark);
    let lines: Vec<_> = lines.into_iter().map(|line| line.text).collect();
    assert_eq!(lines.len(), 3, "down, group created anew, up: {lines:#?}");
    assert!(lines[2].contains("lasted="), "{lines:#?}");
}

/// User and system time of a process.
fn cpu_ms(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11..13]
        .iter()
        .map(|ticks| ticks.parse::<u64>().unwrap())
        .sum();
    ticks * 10
}

#[tokio::test]
async fn an_outage_under_load_loses_nothing_and_runs_nothing_twice() {
    let app = TestApp::with(Redis::durable().await, &[]).await;
    app.server.wait_ready(PATIENCE).await;
    let workers = [(); 2].map(|()| app.worker().start());
    let mut accepted = Vec::new();
    let mut n = 0;
    for outage in [1, 3] {
        for round in 0..3 {
            // Before, during and after the outage.
            match round {
                1 => app.redis.stop().await,
                2 => app.redis.up().await,
                _ => {}
            }
            let until = Instant::now() + Duration::from_secs(outage);
            while Instant::now() < until {
                n += 1;
                let message = format!("job {n}");
                let delay = ["0s", "300ms", "2s"][n % 3];
                let (status, ..) = app
                    .register(json!({"message": message, "delay": delay}))
                    .await;
                if status == 201 {
                    accepted.push(message);
                }
            }
        }
    }
    app.drained(PATIENCE).await;
    let printed = printed(&workers);
    let lost: Vec<_> = accepted
        .iter()
        .filter(|job| !printed.contains_key(*job))
        .collect();
    assert!(lost.is_empty(), "lost {lost:?} of {}", accepted.len());
    let twice: Vec<_> = printed.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert!(accepted.len() > 100, "{} accepted", accepted.len());
}

#[tokio::test]
async fn a_job_that_finished_during_an_outage_is_settled_and_not_run_again() {
    let redis = Redis::durable().await;
    let workers = [(); 2].map(|()| Process::test_worker(&redis).envs(&[LEASE]).start());
    for n in 1..=10 {
        redis.add_test_job("sleep", n, 700).await;
    }
    eventually("all run", PATIENCE, async || {
        (redis.pending().await == 10).then_some(())
    })
    .await;
    redis.stop().await;
    let ends = |n| {
        workers
            .iter()
            .map(|each| each.count(&format!("end {n}")))
            .sum::<usize>()
    };
    eventually("all have ended", PATIENCE, async || {
        (1..=10).all(|n| ends(n) == 1).then_some(())
    })
    .await;
    redis.up().await;
    redis.drained(PATIENCE).await;
    // Were they still to be claimed, they would be within a lease and the hold.
    let again = within(Duration::from_secs(1), async || {
        (1..=10).any(|n| ends(n) != 1).then_some(())
    });
    assert!(again.await.is_none());
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_is_used_within_seconds() {
    let redis = Redis::start().await;
    let worker = Process::jobqueue(&redis).start();
    worker.wait_ready(PATIENCE).await;
    redis.kill();
    worker.wait_for_log("redis is unavailable", PATIENCE).await;
    redis.up_empty().await;
    redis
        .add_job(r#"{"type":"demo:delay_print","payload":{"message":"new"}}"#)
        .await;
    worker
        .wait_for_line(|line| line.ends_with("new"), RESUME + SLACK)
        .await;
    redis.drained(PATIENCE).await;
}

#[tokio::test]
async fn a_stream_deleted_under_blocking_workers_is_made_anew() {
    for loss in [&["FLUSHALL"][..], &["DEL", STREAM]] {
        let redis = Redis::start().await;
        let worker = Process::jobqueue(&redis).start();
        worker.wait_ready(PATIENCE).await;
        redis
            .add_job(r#"{"type":"demo:delay_print","payload":{"message":"old"}}"#)
            .await;
        worker
            .wait_for_line(|line| line.ends_with("old"), PATIENCE)
            .await;
        let mark = worker.log_mark();
        redis.cmd(loss).await;
        redis
            .add_job(r#"{"type":"demo:delay_print","payload":{"message":"new"}}"#)
            .await;
        worker
            .wait_for_line(|line| line.ends_with("new"), RESUME + SLACK)
            .await;
        redis.drained(PATIENCE).await;
        let lines = worker.stderr().split_off(mark);
        assert_eq!(lines.len(), 1, "{loss:?}: {lines:#?}");
        assert!(lines[0].text.contains("consumer group"), "{lines:#?}");
    }
}

#[tokio::test]
async fn a_script_flush_goes_unnoticed() {
    let redis = Redis::start().await;
    let worker = Process::jobqueue(&redis).start();
    worker.wait_ready(PATIENCE).await;
    let mark = worker.log_mark();
    for n in 0..5 {
        redis.cmd(&["SCRIPT", "FLUSH"]).await;
        let job =
            format!(r#"{{"type":"demo:delay_print","payload":{{"message":"{n}"}},"delay_ms":50}}"#);
        redis.add_job(&job).await;
        redis.drained(PATIENCE).await;
    }
    assert_eq!(worker.stdout().len(), 5);
    assert_eq!(worker.log_mark(), mark, "{:#?}", worker.stderr());
}

#[tokio::test]
async fn a_half_open_connection_is_noticed() {
    let redis = Redis::start().await;
    let proxy = redis.proxy().await;
    let worker = Process::jobqueue(&redis).redis_addr(proxy.addr()).start();
    worker.wait_ready(PATIENCE).await;
    let mark = worker.log_mark();
    proxy.set_stall(Direction::UpstreamToClient);
    proxy.set_stall(Direction::ClientToUpstream);
    // BLOCK and two seconds.
    let limit = Duration::from_secs(3) + SLACK;
    worker
        .wait_for_log_since(mark, "redis is unavailable", limit)
        .await;
    cut(&proxy).await;
    redis
        .add_job(r#"{"type":"demo:delay_print","payload":{"message":"after"}}"#)
        .await;
    worker
        .wait_for_line(|line| line.ends_with("after"), RESUME + SLACK)
        .await;
}

#[tokio::test]
async fn a_delivery_whose_reply_is_lost_is_found_without_counting_another() {
    let redis = Redis::start().await;
    let proxy = redis.proxy().await;
    let worker = Process::test_worker(&redis)
        .redis_addr(proxy.addr())
        .start();
    redis.add_test_job("sleep", 1, 4000).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    // Redis delivers to a worker that no longer hears it.
    proxy.set_stall(Direction::UpstreamToClient);
    let lost = redis.add_test_job("sleep", 2, 500).await;
    let delivered = eventually("the delivery", PATIENCE, async || {
        let pending = redis.pending_entries().await;
        pending.into_iter().find(|entry| entry.id == lost)
    });
    assert_eq!(delivered.await.deliveries, 1);
    cut(&proxy).await;
    worker
        .wait_for_line(|line| line == "start 2", Duration::from_secs(3) + SLACK)
        .await;
    let pending = redis.pending_entries().await;
    assert!(
        pending.iter().all(|entry| entry.deliveries == 1),
        "{pending:?}"
    );
    redis.drained(PATIENCE).await;
    assert_eq!((worker.count("start 1"), worker.count("start 2")), (1, 1));
}

#[tokio::test]
async fn a_lost_answer_to_a_settlement_is_asked_for_again() {
    let redis = Redis::start().await;
    let proxy = redis.proxy().await;
    let worker = Process::test_worker(&redis)
        .redis_addr(proxy.addr())
        .start();
    // One outcome of each kind that is not a success: they are on record already.
    redis.add_test_job("fail", 2, 1).await;
    redis.add_test_job("malformed", 3, 0).await;
    eventually("a retry", PATIENCE, async || {
        (redis.scheduled().await == 1).then_some(())
    })
    .await;
    redis.add_test_job("sleep", 1, 300).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    proxy.set_stall(Direction::UpstreamToClient);
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
    eventually("redis has acted", PATIENCE, async || {
        (redis.pending().await == 0).then_some(())
    })
    .await;
    cut(&proxy).await;
    redis.drained(PATIENCE).await;
    assert_eq!((worker.count("start 1"), worker.count("start 2")), (1, 2));
}

#[tokio::test]
async fn each_connection_may_be_killed_and_nothing_runs_twice() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).envs(&[LEASE]).start();
    redis.add_test_job("sleep", 1, 6000).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    for (n, name) in [
        (2, "jobqueue-fetch"),
        (3, "jobqueue-shared"),
        (4, "jobqueue-heartbeat"),
    ] {
        let client = eventually(name, PATIENCE, async || {
            let clients: String = redis.query(&["CLIENT", "LIST"]).await;
            let client = clients
                .lines()
                .find(|line| line.contains(&format!("name={name} ")))?;
            Some(client.split([' ', '=']).nth(1)?.to_owned())
        });
        redis.cmd(&["CLIENT", "KILL", "ID", &client.await]).await;
        redis.add_test_job("sleep", n, 0).await;
        let end = format!("end {n}");
        worker
            .wait_for_line(|line| line == end, RESUME + SLACK)
            .await;
    }
    redis.drained(PATIENCE).await;
    assert_eq!(worker.count("start 1"), 1);
}

#[tokio::test]
async fn a_frozen_redis_makes_no_running_job_run_twice_and_dead_workers_are_still_found() {
    let redis = Redis::start().await;
    let env = [LEASE, ("APP__JOBQUEUE__CONCURRENCY", "20")];
    let live = [(); 2].map(|()| Process::test_worker(&redis).envs(&env).start());
    for n in 1..=8 {
        redis.add_test_job("sleep", n, 9000).await;
    }
    eventually("all run", PATIENCE, async || {
        (redis.pending().await == 8).then_some(())
    })
    .await;
    // And a job of a worker that dies in the freeze.
    let lost = redis.add_test_job("sleep", 9, 0).await;
    let starts = |n| {
        live.iter()
            .map(|each| each.count(&format!("start {n}")))
            .sum::<usize>()
    };
    eventually("the ninth has run", PATIENCE, async || {
        (starts(9) == 1).then_some(())
    })
    .await;
    let dead = redis.add_test_job("quiet", 0, 0).await;
    assert_ne!(lost, dead);
    redis.freeze();
    // Two leases.
    let moved = within(Duration::from_secs(4), async || {
        (starts(1) > 1).then_some(())
    });
    assert!(moved.await.is_none());
    redis.resume();
    redis.drained(Duration::from_secs(20)).await;
    for n in 1..=9 {
        assert_eq!(starts(n), 1, "job {n}");
    }
}

#[tokio::test]
async fn nobody_claims_while_the_mark_says_that_time_stood_still() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).envs(&[LEASE]).start();
    eventually("the hold of a fresh queue is over", PATIENCE, async || {
        let hold: u64 = redis.state().await.get("reclaim_hold_ms")?.parse().ok()?;
        (redis.now_ms().await > hold).then_some(())
    })
    .await;
    let hour = 3_600_000;
    for (n, mark) in [
        (1, None),
        (2, Some(redis.now_ms().await - hour)),
        (3, Some(redis.now_ms().await + hour)),
    ] {
        let script = "local id = redis.call('XADD', KEYS[1], '*', 'job', ARGV[2])
            redis.call('XREADGROUP', 'GROUP', ARGV[1], 'other', 'STREAMS', KEYS[1], '>')
            redis.call('XCLAIM', KEYS[1], ARGV[1], 'other', 0, id, 'IDLE', 3600000, 'JUSTID')
            if ARGV[3] == '' then redis.call('HDEL', KEYS[2], 'reclaim_seen_ms')
            else redis.call('HSET', KEYS[2], 'reclaim_seen_ms', ARGV[3]) end
            return id";
        let job = crate::support::test_job("sleep", n, 0);
        let mark = mark.map(|ms| ms.to_string()).unwrap_or_default();
        redis
            .cmd(&["EVAL", script, "2", STREAM, STATE, GROUP, &job, &mark])
            .await;
        let started = Instant::now();
        let start = format!("start {n}");
        worker.wait_for_line(|line| line == start, PATIENCE).await;
        // heartbeat 667 ms + max_retry_backoff 512 ms + 1 s, less one look at the mark.
        let held = started.elapsed();
        assert!(
            held >= Duration::from_millis(2100),
            "claimed after {held:?} with mark {mark:?}"
        );
    }
}

#[tokio::test]
async fn a_slow_and_broken_network_is_slower_and_correct() {
    let redis = Redis::start().await;
    let proxy = redis.proxy().await;
    let worker = Process::jobqueue(&redis).redis_addr(proxy.addr()).start();
    worker.wait_ready(PATIENCE).await;
    proxy.set_delay(
        Direction::UpstreamToClient,
        Delay::Fixed(Duration::from_millis(100)),
    );
    proxy.set_delay(
        Direction::ClientToUpstream,
        Delay::Fixed(Duration::from_millis(100)),
    );
    for n in 0..30 {
        let job = format!(
            r#"{{"type":"demo:delay_print","payload":{{"message":"{n}"}},"delay_ms":{}}}"#,
            (n % 3) * 100
        );
        redis.add_job(&job).await;
    }
    eventually("half of it", PATIENCE, async || {
        (worker.stdout().len() > 10).then_some(())
    })
    .await;
    cut(&proxy).await;
    proxy.set_chunk_size(1);
    redis.drained(Duration::from_secs(20)).await;
    let printed = printed(std::slice::from_ref(&worker));
    assert_eq!(printed.len(), 30);
    assert!(printed.values().all(|times| *times == 1), "{printed:?}");
}

#[tokio::test]
async fn a_registration_without_an_answer_is_said_to_be_unknown_and_not_repeated() {
    let redis = Redis::start().await;
    let proxy = redis.proxy().await;
    let server = Process::server(&redis).redis_addr(proxy.addr()).start();
    let app = TestApp::around(redis, server).await;
    app.server.wait_ready(PATIENCE).await;
    proxy.set_stall(Direction::UpstreamToClient);
    let sent = Instant::now();
    let (status, body, headers) = app.register(json!({"delay": "0s"})).await;
    let took = sent.elapsed();
    assert_eq!(status, 503);
    assert!(headers.contains_key("retry-after"));
    let detail = body["detail"].as_str().unwrap();
    assert!(detail.contains("the outcome is unknown"), "{detail}");
    // The request's deadline is a second.
    assert!(took < Duration::from_secs(1) + SLACK, "{took:?}");
    cut(&proxy).await;
    app.server.wait_ready(PATIENCE).await;
    assert_eq!(app.redis.xlen().await, 1);
}

#[tokio::test]
async fn a_registration_cut_off_by_a_closed_connection_is_unknown_too() {
    let redis = Redis::start().await;
    let proxy = redis.proxy().await;
    let server = Process::server(&redis).redis_addr(proxy.addr()).start();
    let app = TestApp::around(redis, server).await;
    app.server.wait_ready(PATIENCE).await;
    // The next byte from Redis ends the connection.
    proxy.close_after(Direction::UpstreamToClient, 0);
    proxy.set_delay(
        Direction::UpstreamToClient,
        Delay::Fixed(Duration::from_millis(1)),
    );
    let (status, body, _) = app.register(json!({"delay": "0s"})).await;
    assert_eq!(status, 503, "{body}");
    proxy.reset();
    app.server.wait_ready(PATIENCE).await;
    let detail = body["detail"].as_str().unwrap();
    assert!(detail.contains("the outcome is unknown"), "{detail}");
    assert_eq!(app.redis.xlen().await, 1);
}
