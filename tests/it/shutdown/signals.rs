//! What each signal does to both programs.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use crate::support::{
    PATIENCE, Process, ProcessBuilder, Redis, SmallPipe, Terminal, eventually, test_job, within,
};

const BOTH: [fn(&Redis) -> ProcessBuilder; 2] = [Process::server, Process::jobqueue];
type Send = fn(&Process);
const STOPPING: [(&str, Send); 4] = [
    ("SIGTERM", Process::term),
    ("SIGINT", Process::int),
    ("SIGQUIT", Process::quit),
    ("SIGHUP", Process::hup),
];

#[tokio::test]
async fn four_signals_stop_both_programs_in_order() {
    let redis = Redis::start().await;
    for start in BOTH {
        for (name, send) in STOPPING {
            let process = start(&redis).start();
            process.wait_ready(PATIENCE).await;
            send(&process);
            assert_eq!(process.wait_exit(PATIENCE).await.code(), Some(0), "{name}");
            assert_eq!(
                process.count_log(&format!("signal=\"{name}\"")),
                1,
                "{name}"
            );
        }
    }
}

#[tokio::test]
async fn a_job_that_runs_is_finished_whichever_signal_comes_and_a_second_one_ends_it() {
    let redis = Redis::start().await;
    for (n, (name, send)) in (1..).zip(STOPPING) {
        let worker = Process::test_worker(&redis).start();
        redis.add_job(&test_job("sleep", n, 700)).await;
        let start = format!("start {n}");
        worker.wait_for_line(|line| line == start, PATIENCE).await;
        send(&worker);
        assert_eq!(worker.wait_exit(PATIENCE).await.code(), Some(0), "{name}");
        assert!(
            worker
                .stdout()
                .iter()
                .any(|line| line.text == format!("end {n}"))
        );
        redis.drained(PATIENCE).await;
    }
    for (name, send) in STOPPING {
        let redis = Redis::start().await;
        let worker = Process::test_worker(&redis).start();
        redis.add_job(&test_job("hang", 1, 0)).await;
        worker
            .wait_for_line(|line| line == "start 1", PATIENCE)
            .await;
        worker.term();
        worker.wait_for_log("worker stopping", PATIENCE).await;
        let asked = Instant::now();
        send(&worker);
        assert_eq!(worker.wait_exit(PATIENCE).await.code(), Some(1), "{name}");
        assert!(asked.elapsed() < Duration::from_secs(1), "{name}");
    }
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_no_signal() {
    let redis = Redis::start().await;
    for (name, send) in STOPPING {
        for start in BOTH {
            let mut log = SmallPipe::new();
            let process = start(&redis).stderr_to(log.end()).start();
            log.listening().await;
            log.fill();
            send(&process);
            let asked = Instant::now();
            assert_eq!(process.wait_exit(PATIENCE).await.code(), Some(0), "{name}");
            assert!(asked.elapsed() < Duration::from_millis(1_200), "{name}");
        }
    }
}

/// A program that inherits an ignored signal from its parent.
fn ignoring(redis: &Redis, program: &str, signal: &str) -> ProcessBuilder {
    let script = format!("trap '' {signal}; exec '{program}'");
    let shell = ProcessBuilder::program("/bin/sh").redis(redis);
    shell.args(&["-c", &script])
}

#[tokio::test]
async fn nohup_protects_from_a_closed_terminal_and_from_nothing_else() {
    let redis = Redis::start().await;
    for program in [env!("CARGO_BIN_EXE_server"), env!("CARGO_BIN_EXE_jobqueue")] {
        let process = ignoring(&redis, program, "HUP").start();
        process.wait_ready(PATIENCE).await;
        process.hup();
        let ended = within(Duration::from_millis(300), async || process.exited()).await;
        assert_eq!(ended, None);
        process.wait_ready(PATIENCE).await;
        process.term();
        assert_eq!(process.wait_exit(PATIENCE).await.code(), Some(0));

        // A program that a script starts in the background ignores these signals. They can still
        // stop it here.
        for (name, send) in [("INT", Process::int as Send), ("QUIT", Process::quit)] {
            let process = ignoring(&redis, program, name).start();
            process.wait_ready(PATIENCE).await;
            send(&process);
            assert_eq!(process.wait_exit(PATIENCE).await.code(), Some(0), "{name}");
        }
    }
}

#[tokio::test]
async fn a_terminal_that_is_closed_loses_no_job() {
    let redis = Redis::start().await;
    let terminal = Terminal::new();
    let script = format!(
        "exec setsid --ctty --wait '{}'",
        env!("CARGO_BIN_EXE_jobqueue")
    );
    let worker = ProcessBuilder::program("/bin/sh")
        .redis(&redis)
        .args(&["-c", &format!("{script} <\"$0\""), &terminal.path()])
        .stdout_to(terminal.end())
        .start();
    worker.wait_ready(PATIENCE).await;
    redis
        .add_job(r#"{"type":"demo:delay_print","payload":{"message":"shown"}}"#)
        .await;
    terminal.wait_for("] shown", PATIENCE).await;
    terminal.close();
    assert_eq!(worker.wait_exit(PATIENCE).await.code(), Some(0));
    assert_eq!(worker.count_log("signal=\"SIGHUP\""), 1);
}

#[tokio::test]
async fn a_user_signal_kills_and_a_broken_pipe_does_not() {
    let redis = Redis::start().await;
    for start in BOTH {
        let process = start(&redis).start();
        process.wait_ready(PATIENCE).await;
        process.pipe();
        process.wait_ready(PATIENCE).await;
        process.usr1();
        eventually("it is killed", PATIENCE, async || process.exited()).await;
        assert_eq!(process.wait_exit(PATIENCE).await.signal(), Some(10));
    }
}
