//! Several workers that share one stdout. A line is one line, whatever its length, and a worker
//! that is halted in the middle of a line does not hold up the others.

use std::io::{Read, pipe};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::support::{LONG_LEASE, PATIENCE, Process, ProcessBuilder, Redis, eventually};

const BEFORE: usize = "[2026-01-02 12:34:56] ".len();

fn print(message: &str) -> String {
    format!(r#"{{"type":"demo:delay_print","payload":{{"message":"{message}"}}}}"#)
}

/// Job `n`'s message: its number again and again, up to `bytes` bytes.
fn message(n: usize, bytes: usize) -> String {
    let mut text = format!("{n:06} ").repeat(bytes / 7 + 1);
    text.truncate(bytes);
    text
}

fn reading(mut from: impl Read + Send + 'static) -> tokio::task::JoinHandle<String> {
    tokio::task::spawn_blocking(move || {
        let (mut text, mut piece) = (Vec::new(), vec![0; 4096]);
        while let Ok(count) = from.read(&mut piece)
            && count > 0
        {
            text.extend_from_slice(&piece[..count]);
        }
        String::from_utf8(text).unwrap()
    })
}

/// Prints lines of many lengths by `workers` processes on one output, and asserts that each is
/// whole.
async fn lines_are_whole(workers: usize, from: impl Read + Send + 'static, to: OwnedFd) {
    const JOBS: usize = 420;
    const SIZES: [usize; 7] = [40, 4_100, 900, 60_000, 4_073, 250_000, 9_000];
    let redis = Redis::start().await;
    let start = |_| {
        Process::jobqueue(&redis)
            .stdout_to(to.try_clone().unwrap())
            .start()
    };
    let processes: Vec<Process> = (0..workers).map(start).collect();
    drop(to);
    for process in &processes {
        process.wait_ready(PATIENCE).await;
    }
    let text = reading(from);
    let began = Instant::now();
    let size = |n: usize| SIZES[n % SIZES.len()];
    let jobs = (0..JOBS).map(|n| print(&message(n, size(n))));
    redis.add_jobs(jobs).await;
    redis.drained(PATIENCE * 2).await;
    eprintln!("printed in {:?}", began.elapsed());
    for process in &processes {
        process.term();
        assert_eq!(process.wait_exit(PATIENCE).await.code(), Some(0));
    }
    let text = text.await.unwrap();
    let mut seen = vec![false; JOBS];
    for line in text.lines() {
        let (_, rest) = line.split_at(BEFORE);
        let n: usize = rest[..6].parse().unwrap();
        assert!(rest == message(n, size(n)), "mixed: {line:.100}");
        assert!(!std::mem::replace(&mut seen[n], true), "{n} twice");
    }
    assert!(seen.iter().all(|seen| *seen));
}

#[tokio::test]
async fn long_lines_of_workers_on_one_pipe_never_mix() {
    for workers in [4, 8] {
        let (reader, writer) = pipe().unwrap();
        lines_are_whole(workers, reader, writer.into()).await;
    }
}

#[tokio::test]
async fn long_lines_of_workers_on_one_socket_never_mix() {
    let (reader, writer) = UnixStream::pair().unwrap();
    lines_are_whole(4, reader, writer.into()).await;
}

#[tokio::test]
async fn a_worker_that_is_halted_in_a_line_holds_up_nobody() {
    const JOBS: usize = 200;
    let redis = Redis::start().await;
    let (reader, writer) = pipe().unwrap();
    let start = |worker: ProcessBuilder| {
        let worker = worker.envs(&LONG_LEASE);
        worker.stdout_to(writer.try_clone().unwrap()).start()
    };
    // This worker has no slot for another job.
    let one = Process::jobqueue(&redis).env("APP__JOBQUEUE__CONCURRENCY", "1");
    let halted = start(one);
    redis.add_job(&print(&message(999_999, 200_000))).await;
    eventually("the line is begun", PATIENCE, async || {
        let held = rustix::io::ioctl_fionread(&reader).unwrap();
        (held == 64 * 1024).then_some(())
    })
    .await;
    halted.stop();
    let others = [(); 3].map(|()| start(Process::jobqueue(&redis)));
    drop(writer);
    for other in &others {
        other.wait_ready(PATIENCE).await;
    }
    let size = |n: usize| if n.is_multiple_of(3) { 30_000 } else { 50 };
    redis
        .add_jobs((0..JOBS).map(|n| print(&message(n, size(n)))))
        .await;
    let text = reading(reader);
    let began = Instant::now();
    eventually("the others print", PATIENCE, async || {
        (redis.xlen().await == 1).then_some(())
    })
    .await;
    eprintln!("printed in {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(4));
    halted.cont();
    redis.drained(PATIENCE).await;
    for process in others.iter().chain([&halted]) {
        process.term();
        assert_eq!(process.wait_exit(PATIENCE).await.code(), Some(0));
    }
    let text = text.await.unwrap();
    for n in 0..JOBS {
        let line = format!("] {}\n", message(n, size(n)));
        assert_eq!(text.matches(&line).count(), 1, "{n}");
    }
    // The halted worker's line was torn in two by another worker's line, so there is one line more.
    assert_eq!(text.matches('\n').count(), JOBS + 1);
}
