//! Actions of operators on a queue under load. No job is left where no command finds it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::{
    GROUP, LEASE, LEASES, PATIENCE, Process, Redis, STATE, STREAM, eventually, stays, test_job,
};

const TOLD: &str = "found jobs that had been read and were pending for nobody";

fn worker(redis: &Redis) -> Process {
    Process::test_worker(redis).envs(&[LEASE]).start()
}

/// Adds jobs, and reads them as a consumer that is not a worker.
async fn read_by_hand(redis: &Redis, numbers: std::ops::Range<u64>) {
    redis
        .cmd(&["XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM"])
        .await;
    redis
        .add_jobs(numbers.map(|n| test_job("sleep", n, 0)))
        .await;
    redis
        .cmd(&[
            "XREADGROUP",
            "GROUP",
            GROUP,
            "by-hand",
            "STREAMS",
            STREAM,
            ">",
        ])
        .await;
}

async fn group(redis: &Redis, args: &[&str]) {
    let command = [&["XGROUP", args[0], STREAM, GROUP], &args[1..]].concat();
    redis.cmd(&command).await;
}

/// Waits until this worker has run each of these jobs, and asserts that it ran none of them twice.
async fn ran_once(worker: &Process, jobs: std::ops::Range<u64>) {
    let wanted: BTreeSet<String> = jobs.map(|n| format!("end {n}")).collect();
    let ends = || {
        let lines = worker.stdout().into_iter().map(|line| line.text);
        lines
            .filter(|line| wanted.contains(line))
            .collect::<Vec<_>>()
    };
    // A line is read a moment after its job was acknowledged.
    eventually("all of them ran", PATIENCE, async || {
        (ends().len() >= wanted.len()).then_some(())
    })
    .await;
    assert_eq!(ends().len(), wanted.len());
    assert_eq!(BTreeSet::from_iter(ends()), wanted);
}

/// Asserts that every job ran, and that this worker logged once what had happened.
async fn found(redis: &Redis, worker: &Process, jobs: u64) {
    redis.drained(PATIENCE).await;
    ran_once(worker, 0..jobs).await;
    let line = worker.wait_for_log(TOLD, PATIENCE).await;
    assert!(line.text.contains("WARN"), "{}", line.text);
    assert_eq!(worker.count_log(TOLD), 1);
}

#[tokio::test]
async fn jobs_of_a_consumer_that_was_deleted_are_found() {
    let redis = Redis::start().await;
    read_by_hand(&redis, 0..1234).await;
    group(&redis, &["DELCONSUMER", "by-hand"]).await;
    let worker = worker(&redis);
    found(&redis, &worker, 1234).await;
}

#[tokio::test]
async fn a_backlog_that_was_skipped_is_found() {
    for id in ["$", "9999999999999-0"] {
        let redis = Redis::start().await;
        redis
            .cmd(&["XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM"])
            .await;
        redis
            .add_jobs((0..1500).map(|n| test_job("sleep", n, 0)))
            .await;
        group(&redis, &["SETID", id]).await;
        let worker = worker(&redis);
        found(&redis, &worker, 1500).await;
        // With the second id, the new job's id is before the one that the group was set to. So no
        // read returns the job, and a look must find it.
        redis.add_test_job("sleep", 1500, 0).await;
        worker
            .wait_for_line(|line| line == "end 1500", PATIENCE)
            .await;
        redis.drained(PATIENCE).await;
    }
}

#[tokio::test]
async fn stranded_jobs_among_pending_ones_are_found_and_those_are_let_alone() {
    let redis = Redis::start().await;
    let script = "redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
        for i = 1, 3000 do
            redis.call('XADD', KEYS[1], '*', 'job', '{}')
            redis.call('XREADGROUP', 'GROUP', ARGV[1], 'other', 'STREAMS', KEYS[1], '>')
            if i % 1000 == 7 then
                redis.call('XADD', KEYS[1], '*', 'job', ARGV[1 + math.ceil(i / 1000)])
                redis.call('XREADGROUP', 'GROUP', ARGV[1], 'by-hand', 'STREAMS', KEYS[1], '>')
            end
        end
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], 'by-hand')";
    let jobs: Vec<String> = (1..=3).map(|n| test_job("sleep", n, 0)).collect();
    let mut args = vec!["EVAL", script, "1", STREAM, GROUP];
    args.extend(jobs.iter().map(String::as_str));
    redis.cmd(&args).await;
    let worker = Process::test_worker(&redis).start();
    for n in 1..=3 {
        let end = format!("end {n}");
        worker.wait_for_line(|line| line == end, PATIENCE).await;
    }
    eventually("they are settled", PATIENCE, async || {
        (redis.pending().await == 3000).then_some(())
    })
    .await;
    let entry = redis.pending_entries().await.remove(0);
    assert_eq!((entry.consumer.as_str(), entry.deliveries), ("other", 1));
}

#[tokio::test]
async fn a_worker_that_was_deleted_under_its_jobs_does_not_start_them_again() {
    let redis = Redis::start().await;
    let worker = worker(&redis);
    for n in 0..5 {
        redis.add_test_job("sleep", n, 4000).await;
    }
    for n in 0..5 {
        let start = format!("start {n}");
        worker.wait_for_line(|line| line == start, PATIENCE).await;
    }
    let consumer = redis.consumers().await.remove(0).name;
    group(&redis, &["DELCONSUMER", &consumer]).await;
    eventually("they are pending again", PATIENCE, async || {
        (redis.pending().await == 5).then_some(())
    })
    .await;
    redis.drained(PATIENCE).await;
    for n in 0..5 {
        let lines = [format!("start {n}"), format!("end {n}")];
        assert_eq!(lines.map(|line| worker.count(&line)), [1, 1]);
    }
}

#[tokio::test]
async fn whatever_is_done_to_a_queue_under_load_strands_no_job() {
    let redis = Redis::start().await;
    let workers = [(); 3].map(|()| worker(&redis));
    workers[0]
        .wait_for_log("connected to redis", PATIENCE)
        .await;
    let delete_all =
        "for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
            redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer[2])
        end";
    let hands: [&[&str]; 9] = [
        &["EVAL", delete_all, "1", STREAM, GROUP],
        &["XGROUP", "SETID", STREAM, GROUP, "$"],
        &["XGROUP", "DESTROY", STREAM, GROUP],
        &["DEL", STATE],
        &["XGROUP", "SETID", STREAM, GROUP, "0"],
        &["DEL", LEASES],
        &["XGROUP", "SETID", STREAM, GROUP, "9999999999999-0"],
        &[
            "HSET",
            STATE,
            "stranded_cursor",
            "x",
            "reset_cursor",
            "y",
            "stranded_next_ms",
            "z",
        ],
        &["XGROUP", "SETID", STREAM, GROUP, "$"],
    ];
    let mut n = 0;
    for hand in hands {
        for _ in 0..20 {
            redis
                .add_jobs((n..n + 10).map(|n| test_job("sleep", n, 5)))
                .await;
            n += 10;
        }
        // A destroyed group is created again a moment later. The next command waits for that.
        eventually("the group is there", PATIENCE, async || {
            redis.try_cmd(hand).await.ok()
        })
        .await;
    }
    redis.drained(2 * PATIENCE).await;
    let ran = |n| {
        workers
            .iter()
            .any(|worker| worker.count(&format!("end {n}")) > 0)
    };
    let lost: Vec<u64> = (0..n).filter(|n| !ran(*n)).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

#[tokio::test]
async fn what_was_deleted_or_trimmed_by_hand_is_let_go_and_the_rest_runs() {
    let redis = Redis::start().await;
    read_by_hand(&redis, 0..20).await;
    let ids: Vec<String> = redis
        .entries()
        .await
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    redis
        .add_jobs((20..30).map(|n| test_job("sleep", n, 0)))
        .await;
    redis.cmd(&["XDEL", STREAM, &ids[7], &ids[9]]).await;
    redis.cmd(&["XTRIM", STREAM, "MINID", &ids[5]]).await;
    let worker = worker(&redis);
    redis.drained(PATIENCE).await;
    let runs = (5..30).filter(|n| ![7, 9].contains(n));
    for n in runs {
        ran_once(&worker, n..n + 1).await;
    }
    let deleted = "deleted from the stream by somebody else count=7";
    worker.wait_for_log(deleted, PATIENCE).await;
    assert_eq!(worker.count_log(deleted), 1);
}

#[tokio::test]
async fn a_stream_that_was_renamed_and_is_back_loses_no_job() {
    let redis = Redis::start().await;
    let worker = worker(&redis);
    redis.add_test_job("sleep", 0, 1500).await;
    worker
        .wait_for_line(|line| line == "start 0", PATIENCE)
        .await;
    redis.cmd(&["RENAME", STREAM, "elsewhere"]).await;
    redis
        .cmd(&["XADD", "elsewhere", "*", "job", &test_job("sleep", 1, 0)])
        .await;
    eventually("the worker has made a stream", PATIENCE, async || {
        (redis.query::<u64>(&["EXISTS", STREAM]).await == 1).then_some(())
    })
    .await;
    redis.cmd(&["RENAME", "elsewhere", STREAM]).await;
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
    redis.drained(PATIENCE).await;
}

#[tokio::test]
async fn only_what_says_so_pauses_a_queue() {
    let redis = Redis::start().await;
    let worker = worker(&redis);
    worker.wait_for_log("connected to redis", PATIENCE).await;
    let mut n = 0;
    for value in ["false", "0", "no", "Off", "FALSE", ""] {
        redis.cmd(&["HSET", STATE, "paused", value]).await;
        n += 1;
        redis.add_test_job("sleep", n, 0).await;
        redis.drained(PATIENCE).await;
    }
    assert_eq!(worker.count_log("paused"), 0);
    for value in ["true", "1", "yes", "since noon"] {
        let mark = worker.log_mark();
        redis.cmd(&["HSET", STATE, "paused", value]).await;
        worker
            .wait_for_log_since(mark, "the queue is paused", PATIENCE)
            .await;
        n += 1;
        redis.add_test_job("sleep", n, 0).await;
        stays("nothing runs", Duration::from_millis(500), async || {
            redis.xlen().await == 1
        })
        .await;
        redis.cmd(&["HSET", STATE, "paused", "no"]).await;
        redis.drained(PATIENCE).await;
    }
}
