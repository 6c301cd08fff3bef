//! A stdout that nobody reads for longer than a job may take.

use std::io::{PipeReader, Read, Write, pipe};
use std::time::Duration;

use crate::support::{PATIENCE, Process, Redis, Terminal, eventually, stays, within};

const PIPE_BYTES: usize = 64 * 1024;
const SHORT: [(&str, &str); 2] = [
    ("APP__JOBQUEUE__LEASE", "1s"),
    ("APP__JOBQUEUE__JOB_TIMEOUT", "1s"),
];

fn print(message: &str) -> String {
    format!(r#"{{"type":"demo:delay_print","payload":{{"message":"{message}"}}}}"#)
}

/// A worker whose stdout is a pipe with room for `room` bytes, and the pipe's other end.
fn stuck(redis: &Redis, room: usize) -> (Process, PipeReader) {
    let (reader, mut writer) = pipe().unwrap();
    let mut filler = vec![b'.'; PIPE_BYTES - room - 1];
    filler.push(b'\n');
    writer.write_all(&filler).unwrap();
    let worker = Process::jobqueue(redis).envs(&SHORT).stdout_to(writer);
    (worker.start(), reader)
}

fn reading(mut reader: PipeReader) -> tokio::task::JoinHandle<String> {
    tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    })
}

#[tokio::test]
async fn what_a_stuck_stdout_holds_runs_elsewhere_after_the_job_timeout() {
    const JOBS: usize = 10;
    let redis = Redis::start().await;
    let (first, reader) = stuck(&redis, 0);
    redis.reclaiming().await;
    redis
        .add_jobs((0..JOBS).map(|n| print(&format!("job {n}"))))
        .await;
    eventually("the jobs are delivered", PATIENCE, async || {
        (redis.pending().await == JOBS as u64).then_some(())
    })
    .await;
    let second = Process::jobqueue(&redis).envs(&SHORT).start();
    second.wait_for_lines(JOBS, Duration::from_secs(5)).await;
    let reason = first.wait_not_ready(PATIENCE).await;
    assert!(reason.contains("stdout is blocked"), "{reason}");
    first.wait_for_log("stdout is blocked", PATIENCE).await;
    redis.drained(PATIENCE).await;
    // The first worker takes no more jobs, however long it is idle. The other worker gets them at
    // once.
    for n in 0..20 {
        redis.add_job(&print(&format!("later {n}"))).await;
        second
            .wait_for_lines(JOBS + n + 1, Duration::from_secs(1))
            .await;
    }
    let text = reading(reader);
    first
        .wait_for_log("stdout takes lines again", PATIENCE)
        .await;
    first.wait_ready(PATIENCE).await;
    second.term();
    second.wait_exit(PATIENCE).await;
    redis.add_job(&print("at last")).await;
    redis.drained(PATIENCE).await;
    first.term();
    assert_eq!(first.wait_exit(PATIENCE).await.code(), Some(0));
    assert_eq!(second.stdout().len(), JOBS + 20);
    let text = text.await.unwrap();
    let printed: Vec<&str> = text.lines().skip(1).collect();
    assert!(
        matches!(printed[..], [line] if line.ends_with("] at last")),
        "{printed:?}"
    );
    assert_eq!(redis.dead_letters().await, []);
    assert_eq!(first.count_log("stdout is blocked"), 1);
}

#[tokio::test]
async fn what_is_put_back_by_a_stuck_worker_alone_is_not_counted() {
    let redis = Redis::start().await;
    let (worker, reader) = stuck(&redis, 0);
    redis.add_jobs((0..3).map(|n| print(&n.to_string()))).await;
    let put_back = async || {
        let entries = redis.pending_entries().await;
        entries.len() == 3 && entries.iter().all(|entry| entry.deliveries == 0)
    };
    eventually("the jobs are put back", PATIENCE, async || {
        put_back().await.then_some(())
    })
    .await;
    // The worker leaves the jobs alone. It does not take them and give them back again and again.
    stays("they are put back", Duration::from_secs(2), put_back).await;
    worker.wait_not_ready(PATIENCE).await;
    let text = reading(reader);
    redis.drained(PATIENCE).await;
    worker.term();
    assert_eq!(worker.wait_exit(PATIENCE).await.code(), Some(0));
    assert_eq!(text.await.unwrap().lines().count(), 1 + 3);
}

#[tokio::test]
async fn a_line_once_begun_stays_with_its_worker() {
    let redis = Redis::start().await;
    let (first, reader) = stuck(&redis, 4096);
    redis.reclaiming().await;
    let long = "x".repeat(10_000);
    redis.add_job(&print(&long)).await;
    eventually("the line is begun", PATIENCE, async || {
        let held = rustix::io::ioctl_fionread(&reader).unwrap();
        (held == PIPE_BYTES as u64).then_some(())
    })
    .await;
    redis.add_jobs((0..5).map(|n| print(&n.to_string()))).await;
    let second = Process::jobqueue(&redis).envs(&SHORT).start();
    second.wait_for_lines(5, Duration::from_secs(5)).await;
    let begun_alone = async || redis.pending().await == 1;
    eventually("the others are done", PATIENCE, async || {
        begun_alone().await.then_some(())
    })
    .await;
    stays("the line is begun", Duration::from_secs(2), begun_alone).await;
    let text = reading(reader);
    redis.drained(PATIENCE).await;
    first.wait_ready(PATIENCE).await;
    first.term();
    assert_eq!(first.wait_exit(PATIENCE).await.code(), Some(0));
    let text = text.await.unwrap();
    assert!(text.ends_with(&format!("] {long}\n")));
    assert_eq!((text.lines().count(), second.stdout().len()), (2, 5));
}

/// Reads enough of a pipe to make room for a line.
fn read_page(reader: &mut PipeReader) {
    reader.read_exact(&mut [0; 4096]).unwrap();
}

/// Jobs whose lines take one page of the pipe each.
fn page_jobs(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| print(&format!("{n} {}", "x".repeat(4_000))))
}

#[tokio::test]
async fn a_line_now_and_then_is_no_end_of_a_block() {
    let redis = Redis::start().await;
    let (reader, mut writer) = pipe().unwrap();
    let mut filler = vec![b'.'; PIPE_BYTES - 1];
    filler.push(b'\n');
    writer.write_all(&filler).unwrap();
    let worker = Process::jobqueue(&redis).stdout_to(writer).start();
    redis.add_jobs(page_jobs(10)).await;
    worker.wait_for_log("stdout is blocked", PATIENCE).await;
    worker.wait_not_ready(PATIENCE).await;
    let mut reader = reader;
    for left in (6..10).rev() {
        read_page(&mut reader);
        eventually("one more is printed", PATIENCE, async || {
            (redis.xlen().await == left).then_some(())
        })
        .await;
        // The worker looks at its output four times a second.
        let told = async || (worker.count_log("takes lines again") > 0).then_some(());
        let told = within(Duration::from_millis(400), told).await;
        assert_eq!(told, None, "{left} lines wait");
    }
    worker.wait_not_ready(PATIENCE).await;
    let text = reading(reader);
    let line = worker.wait_for_log("takes lines again", PATIENCE).await;
    assert!(line.text.contains("lasted="), "{}", line.text);
    worker.wait_ready(PATIENCE).await;
    worker.term();
    assert_eq!(worker.wait_exit(PATIENCE).await.code(), Some(0));
    drop(text.await.unwrap());
    assert_eq!(worker.count_log("stdout is blocked"), 1);
}

#[tokio::test]
async fn a_reader_that_is_slow_is_told_of_too() {
    let redis = Redis::start().await;
    let (mut reader, mut writer) = pipe().unwrap();
    let mut filler = vec![b'.'; PIPE_BYTES - 1];
    filler.push(b'\n');
    writer.write_all(&filler).unwrap();
    let worker = Process::jobqueue(&redis)
        // This is how long a line may wait.
        .env("APP__JOBQUEUE__JOB_TIMEOUT", "2s")
        .stdout_to(writer)
        .start();
    redis.add_jobs(page_jobs(30)).await;
    let told = async || (worker.count_log("stdout is slow") > 0).then_some(());
    for _ in 0..20 {
        if within(Duration::from_millis(400), told).await.is_some() {
            break;
        }
        read_page(&mut reader);
    }
    worker.wait_for_log("stdout is slow", PATIENCE).await;
    worker.wait_ready(PATIENCE).await;
    let text = reading(reader);
    worker.wait_for_log("takes lines again", PATIENCE).await;
    redis.drained(PATIENCE).await;
    worker.term();
    assert_eq!(worker.wait_exit(PATIENCE).await.code(), Some(0));
    drop(text.await.unwrap());
    assert_eq!(worker.count_log("stdout is blocked"), 0);
}

#[tokio::test]
async fn a_terminal_that_is_halted_is_a_block() {
    let redis = Redis::start().await;
    let mut terminal = Terminal::new();
    let worker = Process::jobqueue(&redis).stdout_to(terminal.end()).start();
    worker.wait_ready(PATIENCE).await;
    let (ctrl_s, ctrl_q) = (b"\x13", b"\x11");
    terminal.types(ctrl_s);
    redis.add_job(&print("later")).await;
    worker.wait_for_log("stdout is blocked", PATIENCE).await;
    worker.wait_not_ready(PATIENCE).await;
    assert_eq!(redis.pending().await, 1);
    terminal.types(ctrl_q);
    terminal.wait_for("] later", PATIENCE).await;
    worker.wait_for_log("takes lines again", PATIENCE).await;
    redis.drained(PATIENCE).await;
    worker.term();
    assert_eq!(worker.wait_exit(PATIENCE).await.code(), Some(0));
}
