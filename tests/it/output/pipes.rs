//! Lines on stdout. They are whole on a pipe that several workers share, and they wait on a pipe
//! that nobody reads.

use std::collections::BTreeSet;
use std::io::{PipeReader, Read, Write, pipe};
use std::time::{Duration, Instant};

use crate::support::{
    LONG_LEASE, PATIENCE, Pending, Process, ProcessBuilder, Redis, eventually, within,
};

/// How many bytes a pipe holds on Linux before it blocks.
const PIPE_BYTES: usize = 64 * 1024;
/// A worker prints this many bytes besides the message: a timestamp and the newline.
const AROUND: usize = "[2026-01-02 12:34:56] \n".len();
const BLOCKED_JOBS: usize = 3;

fn print(message: &str) -> String {
    format!(r#"{{"type":"demo:delay_print","payload":{{"message":"{message}"}}}}"#)
}

/// Reads a pipe to its end, on another thread.
fn reading(mut pipe: PipeReader) -> tokio::task::JoinHandle<String> {
    tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    })
}

/// A worker whose stdout is a full pipe, and the pipe's other end.
fn blocked(worker: ProcessBuilder) -> (Process, PipeReader) {
    let (reader, mut writer) = pipe().unwrap();
    let mut filler = vec![b'.'; PIPE_BYTES - 1];
    filler.push(b'\n');
    writer.write_all(&filler).unwrap();
    (worker.stdout_to(writer).start(), reader)
}

/// The messages that were printed after the text that had filled the pipe. They are sorted, because
/// jobs that run at the same time print in any order.
fn messages(text: &str) -> Vec<&str> {
    let lines = text.lines().filter(|line| !line.starts_with('.'));
    let mut messages: Vec<&str> = lines.map(|line| line.split_once("] ").unwrap().1).collect();
    messages.sort_unstable();
    messages
}

async fn all_delivered(redis: &Redis, count: usize) -> Vec<Pending> {
    eventually("the jobs are delivered", PATIENCE, async || {
        let entries = redis.pending_entries().await;
        (entries.len() == count).then_some(entries)
    })
    .await
}

#[tokio::test]
async fn lines_of_eight_workers_on_one_pipe_never_mix() {
    const JOBS: usize = 3_000;
    let redis = Redis::start().await;
    let (reader, writer) = pipe().unwrap();
    let start = |_| {
        Process::jobqueue(&redis)
            .stdout_to(writer.try_clone().unwrap())
            .start()
    };
    let workers: Vec<Process> = (0..8).map(start).collect();
    drop(writer);
    for worker in &workers {
        worker.wait_ready(PATIENCE).await;
    }
    // The lines have every length up to the size that a pipe takes in one piece. Each job's letter
    // shows whether its line is its own.
    let message = |n: usize| {
        let head = format!("{n} ");
        let length = (n * 997) % (4096 - AROUND - head.len() + 1);
        let letter = char::from(b'a' + u8::try_from(n % 26).unwrap());
        format!("{head}{}", letter.to_string().repeat(length))
    };
    redis.add_jobs((0..JOBS).map(|n| print(&message(n)))).await;
    let text = reading(reader);
    redis.drained(PATIENCE * 2).await;
    for worker in &workers {
        worker.term();
    }
    let text = text.await.unwrap();
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        let (stamp, rest) = line.split_at(AROUND - 1);
        assert!(
            stamp.starts_with('[') && stamp.ends_with("] "),
            "mixed: {line:.100}"
        );
        let n: usize = rest.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(rest, message(n), "mixed");
        assert!(seen.insert(n), "{n} was printed twice");
    }
    assert!(text.ends_with('\n'));
    assert_eq!(seen.len(), JOBS);
}

#[tokio::test]
async fn a_line_that_is_longer_than_a_pipe_takes_is_whole() {
    let redis = Redis::start().await;
    let worker = Process::jobqueue(&redis).start();
    let message = |n: usize| match n % 10 {
        0 => format!("{n} {}", "x".repeat(60_000)),
        _ => format!("{n} short"),
    };
    redis.add_jobs((0..200).map(|n| print(&message(n)))).await;
    let mut lines: Vec<String> = worker
        .wait_for_lines(200, PATIENCE)
        .await
        .into_iter()
        .map(|line| line.text[AROUND - 1..].to_owned())
        .collect();
    lines.sort();
    let mut expected: Vec<String> = (0..200).map(message).collect();
    expected.sort();
    assert!(lines == expected, "a line is not what its job said");
}

#[tokio::test]
async fn a_blocked_pipe_slows_printing_and_nothing_else() {
    let redis = Redis::start().await;
    let short = [
        ("APP__JOBQUEUE__LEASE", "1s"),
        ("APP__JOBQUEUE__RETRY__INITIAL", "1h"),
        ("APP__JOBQUEUE__RETRY__MAX", "1h"),
    ];
    let (first, reader) = blocked(Process::jobqueue(&redis).envs(&short));
    redis.reclaiming().await;
    redis
        .add_jobs((0..BLOCKED_JOBS).map(|n| print(&format!("job {n}"))))
        .await;
    let owner = all_delivered(&redis, BLOCKED_JOBS).await[0]
        .consumer
        .clone();
    // A failed attempt and a park are settled meanwhile.
    redis.add_job(r#"{"type":"no:such"}"#).await;
    redis
        .add_job(r#"{"type":"demo:delay_print","delay_ms":3600000}"#)
        .await;
    eventually("others settle", PATIENCE, async || {
        (redis.scheduled().await == 2).then_some(())
    })
    .await;
    first.wait_ready(PATIENCE).await;
    // For three leases no worker takes a job over, and no job counts as done.
    let second = Process::jobqueue(&redis).envs(&short).start();
    second.wait_ready(PATIENCE).await;
    let changed = within(Duration::from_secs(3), async || {
        let entries = redis.pending_entries().await;
        let as_before = entries.len() == BLOCKED_JOBS
            && entries
                .iter()
                .all(|entry| entry.consumer == owner && entry.deliveries == 1);
        (!as_before).then_some(entries)
    });
    if let Some(entries) = changed.await {
        panic!("{entries:?}");
    }
    assert_eq!(redis.xlen().await, BLOCKED_JOBS as u64);
    let text = reading(reader);
    eventually("the lines are out and acknowledged", PATIENCE, async || {
        (redis.xlen().await == 0).then_some(())
    })
    .await;
    first.term();
    assert_eq!(first.wait_exit(PATIENCE).await.code(), Some(0));
    let text = text.await.unwrap();
    let mut printed = messages(&text);
    // The jobs ran at the same time.
    printed.sort();
    assert_eq!(printed, ["job 0", "job 1", "job 2"]);
    assert!(second.stdout().is_empty());
}

#[tokio::test]
async fn lines_not_begun_at_the_deadline_are_put_back() {
    const JOBS: usize = 8;
    let redis = Redis::start().await;
    let builder = Process::jobqueue(&redis)
        .envs(&LONG_LEASE)
        .env("APP__JOBQUEUE__SHUTDOWN_TIMEOUT", "1s");
    let (first, reader) = blocked(builder);
    redis.reclaiming().await;
    // The pipe takes one page more, which is the beginning of one line.
    let message = |n: usize| format!("{n} {}", "x".repeat(6_000));
    redis.add_jobs((0..JOBS).map(|n| print(&message(n)))).await;
    all_delivered(&redis, JOBS).await;
    (&reader).read_exact(&mut [0; 4096]).unwrap();
    eventually("one line is begun", PATIENCE, async || {
        let held = rustix::io::ioctl_fionread(&reader).unwrap();
        (held == PIPE_BYTES as u64).then_some(())
    })
    .await;
    let asked = Instant::now();
    first.term();
    let status = first.wait_exit(PATIENCE).await;
    let took = asked.elapsed();
    eprintln!("{status} after {took:?}");
    assert!(
        took < Duration::from_millis(2_200),
        "1.5 s at most: {took:?}"
    );
    assert_eq!(status.code(), Some(1), "one line was cut off");
    let (begun, put_back): (Vec<_>, Vec<_>) = redis
        .pending_entries()
        .await
        .into_iter()
        .partition(|entry| entry.idle_ms < 15_000);
    assert_eq!((begun.len(), put_back.len()), (1, JOBS - 1));
    assert!(
        put_back.iter().all(|entry| entry.deliveries == 0),
        "{put_back:?}"
    );
    let second = Process::jobqueue(&redis).envs(&LONG_LEASE).start();
    second
        .wait_for_lines(JOBS - 1, Duration::from_secs(6))
        .await;
}

#[tokio::test]
async fn a_second_signal_ends_a_worker_whose_pipe_is_blocked() {
    let redis = Redis::start().await;
    let short = [("APP__JOBQUEUE__LEASE", "2s")];
    let (first, _reader) = blocked(Process::jobqueue(&redis).envs(&short));
    redis.reclaiming().await;
    redis
        .add_jobs((0..BLOCKED_JOBS).map(|n| print(&format!("job {n}"))))
        .await;
    all_delivered(&redis, BLOCKED_JOBS).await;
    let second = Process::jobqueue(&redis).envs(&short).start();
    second.wait_ready(PATIENCE).await;
    first.term();
    first.wait_for_log("worker stopping", PATIENCE).await;
    let asked = Instant::now();
    first.int();
    let status = first.wait_exit(PATIENCE).await;
    let took = asked.elapsed();
    assert_eq!(status.code(), Some(1));
    assert!(took < Duration::from_secs(1), "{took:?}");
    for line in second.wait_for_lines(BLOCKED_JOBS, PATIENCE).await {
        let after = line.at - asked;
        assert!(after < Duration::from_millis(4_700), "L + 2 s: {after:?}");
    }
}
