//! The programs with a stdin, stdout or stderr that is closed at the start or leads nowhere.

use crate::support::{PATIENCE, Process, ProcessBuilder, Redis, eventually};

const JOB: &str = r#"{"type":"demo:delay_print","payload":{"message":"a line"}}"#;

/// A program whose standard files a shell has changed.
fn redirected(redis: &Redis, program: &str, redirect: &str) -> ProcessBuilder {
    let script = format!("exec '{program}' {redirect}");
    let shell = ProcessBuilder::program("/bin/sh").redis(redis);
    shell.args(&["-c", &script])
}

#[tokio::test]
async fn a_worker_without_stdout_does_not_start() {
    let redis = Redis::start().await;
    redis.add_job(JOB).await;
    for redirect in [">&-", ">&- <&-", "1</dev/null", "1</"] {
        let worker = redirected(&redis, env!("CARGO_BIN_EXE_jobqueue"), redirect).start();
        let status = worker.wait_exit(PATIENCE).await;
        assert_eq!(status.code(), Some(78), "{redirect}");
        let lines = worker.stderr();
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert!(
            lines[0].text.starts_with("error: stdout is closed"),
            "{lines:#?}"
        );
    }
    assert_eq!((redis.xlen().await, redis.pending().await), (1, 0));
}

/// An operator may choose /dev/null as stdout. It may be opened for writing only, or for reading too.
#[tokio::test]
async fn a_worker_that_prints_to_nowhere_says_so_once() {
    let redis = Redis::start().await;
    // Python's subprocess.DEVNULL, Node's "ignore" and daemon(3) open it for reading too.
    let exec = "import os, sys; os.dup2(os.open(os.devnull, os.O_RDWR), 1); os.execv(sys.argv[1], sys.argv[1:])";
    let daemon = ProcessBuilder::program("python3").redis(&redis);
    let worker = env!("CARGO_BIN_EXE_jobqueue");
    for worker in [
        redirected(&redis, worker, ">/dev/null"),
        redirected(&redis, worker, "1<>/dev/null"),
        redirected(&redis, worker, "</dev/null >/dev/null"),
        daemon.args(&["-c", exec, worker]),
    ] {
        redis.add_job(JOB).await;
        let worker = worker.start();
        redis.drained(PATIENCE).await;
        worker.term();
        assert_eq!(worker.wait_exit(PATIENCE).await.code(), Some(0));
        let told = worker.stderr().into_iter();
        let told: Vec<_> = told.filter(|line| line.text.contains(" WARN ")).collect();
        assert_eq!(told.len(), 1, "{told:#?}");
        assert!(told[0].text.contains("stdout is /dev/null"), "{told:#?}");
    }
}

/// The file behind a descriptor of a process, such as `/dev/null` or `socket:[123]`.
fn file(process: &Process, fd: u32) -> String {
    let link = std::fs::read_link(format!("/proc/{}/fd/{fd}", process.pid()));
    link.map_or_else(|_| "closed".to_owned(), |link| link.display().to_string())
}

#[tokio::test]
async fn closed_standard_files_are_no_sockets_later() {
    let redis = Redis::start().await;
    for (program, closed, fds) in [
        (env!("CARGO_BIN_EXE_jobqueue"), "<&-", &[0][..]),
        (env!("CARGO_BIN_EXE_jobqueue"), "2>&-", &[2]),
        (env!("CARGO_BIN_EXE_jobqueue"), "<&- 2>&-", &[0, 2]),
        (env!("CARGO_BIN_EXE_server"), "<&- >&- 2>&-", &[0, 1, 2]),
        (env!("CARGO_BIN_EXE_server"), ">&-", &[1]),
    ] {
        let process = redirected(&redis, program, closed).start();
        let connected = async || {
            let clients: String = redis.query(&["CLIENT", "LIST"]).await;
            // The test also has a connection, which has no name.
            let named = clients
                .lines()
                .filter(|line| !line.contains(" name= "))
                .count();
            (named > 0).then_some(())
        };
        eventually("it is connected", PATIENCE, connected).await;
        for fd in fds {
            assert_eq!(file(&process, *fd), "/dev/null", "{program} {closed}");
        }
        if program.ends_with("jobqueue") {
            redis.add_job(JOB).await;
            process
                .wait_for_line(|line| line.ends_with("a line"), PATIENCE)
                .await;
        }
        process.term();
        assert_eq!(process.wait_exit(PATIENCE).await.code(), Some(0));
        eventually("its connections are closed", PATIENCE, async || {
            connected().await.is_none().then_some(())
        })
        .await;
    }
}
