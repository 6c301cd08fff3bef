//! Child processes: their lines, their signals, their environment and their end.

use std::time::{Duration, Instant};

use super::SHORT;
use crate::support::{
    PATIENCE, Process, ProcessBuilder, Redis, eventually, listening_addr, process_exists, stays,
};

fn shell(script: &str) -> Process {
    ProcessBuilder::program("/bin/sh")
        .args(&["-c", script])
        .start()
}

#[tokio::test]
async fn a_process_gives_its_lines_when_they_come() {
    let process = shell("echo one; echo log >&2; read -r _ || sleep 0.2; printf two; exit 3");
    let two = process.wait_for_line(|line| line == "two", PATIENCE).await;
    let one = process
        .wait_for_line(|line| line.starts_with("on"), PATIENCE)
        .await;
    assert!(one.complete && !two.complete);
    assert!(two.at - one.at >= Duration::from_millis(100));
    assert_eq!(process.wait_for_log("og", PATIENCE).await.text, "log");
    assert_eq!(process.wait_exit(PATIENCE).await.code(), Some(3));
    assert_eq!(process.wait_for_lines(2, PATIENCE).await.len(), 2);
}

#[tokio::test]
async fn what_a_process_has_written_is_there_when_it_is_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..20 {
        let done = dir.path().join(n.to_string());
        // This is less than a pipe holds, so the script does not wait for the reader.
        let script = format!("seq 1 10000; : >'{}'; exec sleep 60", done.display());
        let process = shell(&script);
        eventually("it has written", PATIENCE, async || {
            done.exists().then_some(())
        })
        .await;
        assert_eq!(process.stdout().len(), 10_000);
    }
}

#[tokio::test]
#[should_panic(expected = "sh: no such line on stdout: the output has ended")]
async fn a_wait_for_a_line_ends_with_the_output() {
    shell("echo one")
        .wait_for_line(|line| line == "two", PATIENCE)
        .await;
}

#[tokio::test]
#[should_panic(expected = "sh: no log line with \"one\": waited 200ms")]
async fn a_wait_for_a_log_line_looks_behind_its_mark() {
    let process = shell("echo one >&2; exec sleep 60");
    process.wait_for_log("one", PATIENCE).await;
    process
        .wait_for_log_since(process.log_mark(), "one", SHORT)
        .await;
}

#[tokio::test]
async fn a_process_whose_output_nobody_reads_is_blocked_until_somebody_does() {
    let script = "i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); echo $i; done; echo end";
    let process = ProcessBuilder::program("/bin/sh")
        .args(&["-c", script])
        .small_pipes()
        .start();
    process.read_stdout(false);
    // The most that one page in the pipe and one page in the reader hold.
    let most = 2 * 4096 / 2;
    stays("most lines are still to come", SHORT, async || {
        process.stdout().len() < most
    })
    .await;
    assert!(process.exited().is_none());
    process.read_stdout(true);
    process.wait_for_line(|line| line == "end", PATIENCE).await;
    assert_eq!(process.stdout().len(), 20_001);
}

#[tokio::test]
async fn a_process_gets_its_signals() {
    let script = "trap 'echo term' TERM; trap 'echo int; exit 5' INT; echo up
        while :; do sleep 0.02; done";
    let process = shell(script);
    process.wait_for_line(|line| line == "up", PATIENCE).await;
    process.stop();
    process.term();
    assert!(process.stdout().iter().all(|line| line.text != "term"));
    process.cont();
    process.wait_for_line(|line| line == "term", PATIENCE).await;
    process.int();
    assert_eq!(process.wait_exit(PATIENCE).await.code(), Some(5));
}

#[tokio::test]
async fn a_dropped_process_is_gone_even_when_halted() {
    let process = shell("exec sleep 60");
    let pid = process.pid();
    process.stop();
    assert!(process_exists(pid));
    let began = Instant::now();
    drop(process);
    assert!(!process_exists(pid));
    assert!(began.elapsed() < PATIENCE);
}

#[tokio::test]
async fn a_process_is_told_its_redis_and_nothing_of_the_developer() {
    let redis = Redis::builder().password("p").reserve();
    let environment = |process: &Process| {
        let lines = process.stdout();
        let mut lines: Vec<String> = lines.into_iter().map(|line| line.text).collect();
        lines.retain(|line| line.starts_with("APP_") || line.starts_with("REDIS_JOB"));
        lines.sort();
        lines
    };
    let process = ProcessBuilder::program("/usr/bin/env")
        .redis(&redis)
        .env("APP__JOBQUEUE__LEASE", "2s")
        .start();
    process.wait_exit(PATIENCE).await;
    let mut expected = vec![
        "APP_ENV=develop".to_owned(),
        "APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD=p".to_owned(),
        "APP__JOBQUEUE__HOST=127.0.0.1".to_owned(),
        "APP__JOBQUEUE__LEASE=2s".to_owned(),
        "APP__JOBQUEUE__PORT=0".to_owned(),
        "APP__SERVER__HOST=127.0.0.1".to_owned(),
        "APP__SERVER__PORT=0".to_owned(),
        format!("REDIS_JOBQUEUE_ADDR={}", redis.addr()),
    ];
    // All tests can be run with another value of this one.
    if let Ok(ahead) = std::env::var("TEST_AHEAD") {
        expected.push(format!("APP__JOBQUEUE__AHEAD={ahead}"));
        expected.sort();
    }
    assert_eq!(environment(&process), expected);
}

#[test]
fn a_start_line_names_its_address_in_text_and_in_json() {
    let addr = Some("127.0.0.1:8082".parse().unwrap());
    for line in [
        "2026-01-02T03:04:05Z  INFO server: listening addr=127.0.0.1:8082",
        "INFO server: listening env=develop addr=\"0.0.0.0:8082\" pid=1",
        "INFO server: listening addr=[::]:8082",
        r#"{"level":"INFO","fields":{"message":"listening","addr":"127.0.0.1:8082"}}"#,
        r#"{"fields":{"addr":"127.0.0.1:8082","message":"listening"}}"#,
    ] {
        assert_eq!(listening_addr(line), addr, "{line}");
    }
    assert_eq!(listening_addr("INFO connecting addr=127.0.0.1:8082"), None);
    assert_eq!(listening_addr("INFO listening"), None);
}
