//! Limits of the system that are too low, on files, memory and threads. A program starts and works,
//! or it says why it does not and takes no job.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{PATIENCE, Process, ProcessBuilder, Redis, eventually, within};

const BOTH: [&str; 2] = [env!("CARGO_BIN_EXE_server"), env!("CARGO_BIN_EXE_jobqueue")];
const JOB: &str = r#"{"type":"demo:delay_print","payload":{"message":"a line"}}"#;

/// A program that is started by a shell which has run `ulimit` with these arguments.
fn limited(redis: &Redis, program: &str, ulimit: &str) -> ProcessBuilder {
    let script = format!("ulimit {ulimit} && exec '{program}'");
    let shell = ProcessBuilder::program("/bin/sh").redis(redis);
    shell.args(&["-c", &script])
}

/// Whether the program started. A program that started must work and stop in order. Otherwise it
/// must say why in one line.
async fn starts(redis: &Redis, program: &str, process: &Process, limit: &str) -> bool {
    let what = format!("{program} with {limit}");
    eventually(&what, PATIENCE, async || {
        let listens = process.count_log("listening") > 0;
        (listens || process.exited().is_some()).then_some(())
    })
    .await;
    if process.exited().is_none() && program.ends_with("server") {
        process.wait_ready(PATIENCE).await;
    } else {
        // Some parts of a worker start after it listens.
        let drained =
            async || (process.exited().is_some() || redis.xlen().await == 0).then_some(());
        eventually(&what, PATIENCE, drained).await;
    }
    if process.exited().is_none() {
        process.term();
        assert_eq!(process.wait_exit(PATIENCE).await.code(), Some(0), "{what}");
        assert_eq!(process.count_log("panicked"), 0);
        return true;
    }
    assert_eq!(process.wait_exit(PATIENCE).await.code(), Some(78), "{what}");
    let lines = process.stderr();
    let errors = lines.iter().filter(|line| line.text.starts_with("error: "));
    assert_eq!(errors.count(), 1, "{lines:#?}");
    let noise = lines.iter().filter(|line| line.text.contains("panicked"));
    assert_eq!(noise.count(), 0, "{lines:#?}");
    false
}

#[tokio::test]
async fn with_any_number_of_files_a_program_works_or_says_how_many_it_needs() {
    let redis = Redis::start().await;
    for program in BOTH {
        let mut started = 0;
        // With three files the system cannot load a program.
        for files in [4, 5, 6, 8, 10, 12, 16, 20, 24, 28, 31, 32, 36, 40] {
            redis.add_job(JOB).await;
            let limit = format!("-n {files}");
            let process = limited(&redis, program, &limit).start();
            if starts(&redis, program, &process, &limit).await {
                started += 1;
            } else {
                assert_eq!(process.count_log("ulimit -n"), 1);
                assert_eq!(redis.pending().await, 0, "{limit}");
            }
        }
        assert_eq!(started, 3, "{program}");
    }
    // The program raises a soft limit.
    let process = limited(&redis, BOTH[1], "-S -n 10").start();
    assert!(starts(&redis, BOTH[1], &process, "-S -n 10").await);
}

#[tokio::test]
async fn with_any_amount_of_memory_a_program_works_or_says_that_it_is_too_little() {
    let redis = Redis::start().await;
    for program in BOTH {
        let mut started = 0;
        for mib in [32, 128, 256, 288, 304, 320, 352, 384, 416, 448, 512, 2048] {
            redis.add_jobs((0..500).map(|_| JOB.to_owned())).await;
            let limit = format!("-v {}", mib * 1024);
            let process = limited(&redis, program, &limit).start();
            if starts(&redis, program, &process, &limit).await {
                started += 1;
            } else {
                assert_eq!(process.count_log("ulimit -v"), 1);
                assert_eq!(redis.pending().await, 0, "{limit}");
            }
        }
        assert!((1..12).contains(&started), "{started}: {program}");
    }
}

/// A directory where another user may read the programs and their settings.
fn public() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let copied = Command::new("cp")
        .args(["-r", concat!(env!("CARGO_MANIFEST_DIR"), "/config")])
        .args(BOTH)
        .arg(dir.path())
        .status();
    assert!(copied.unwrap().success());
    let everybody = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.path(), everybody).unwrap();
    dir
}

/// Runs a command as another user, if this user is root.
fn as_user(user: u32) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new("env");
    }
    let mut setpriv = Command::new("setpriv");
    let user = user.to_string();
    setpriv.args(["--clear-groups", "--reuid", &user, "--regid", &user]);
    setpriv
}

/// A program that may have as many threads as `limit` says. The limit does not bind root.
fn bound(redis: &Redis, dir: &Path, program: &str, limit: &str, user: u32) -> ProcessBuilder {
    let copy = dir.join(Path::new(program).file_name().unwrap());
    let script = format!("{limit} exec '{}'", copy.display());
    let command = as_user(user);
    let mut args: Vec<&str> = command
        .get_args()
        .map(|arg| arg.to_str().unwrap())
        .collect();
    args.extend(["/bin/bash", "-c", &script]);
    let builder = ProcessBuilder::program(command.get_program()).redis(redis);
    let builder = builder.args(&args);
    builder.env("CONFIG_DIR", dir.join("config").to_str().unwrap())
}

#[tokio::test]
async fn with_any_number_of_threads_a_program_works_or_says_that_there_are_too_few() {
    let redis = Redis::start().await;
    let dir = public();
    for program in BOTH {
        // The threads of other users do not count.
        let user = 50_000 + std::process::id() % 10_000;
        let mut refused = 0;
        for threads in 1..=9 {
            redis.add_job(JOB).await;
            let limit = format!("ulimit -u {threads} &&");
            let process = bound(&redis, dir.path(), program, &limit, user).start();
            if !starts(&redis, program, &process, &limit).await {
                assert_eq!(process.count_log("ulimit -u"), 1);
                assert_eq!(redis.pending().await, 0, "{limit}");
                refused += 1;
            }
        }
        assert!(refused >= 2, "{refused}: {program}");
    }
}

#[tokio::test]
async fn a_worker_that_runs_out_of_threads_goes_on_and_works_again_later() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can make a user of its own for this");
        return;
    }
    const THREADS: usize = 40;
    let redis = Redis::start().await;
    let dir = public();
    let user = 60_000 + std::process::id() % 5_000;
    let port = redis.addr().rsplit(':').next().unwrap().to_owned();
    let limit = format!("ulimit -u {THREADS} &&");
    let worker = bound(&redis, dir.path(), BOTH[1], &limit, user)
        // The lookup of a name needs a thread.
        .redis_addr(format!("localhost:{port}"))
        .start();
    worker.wait_ready(PATIENCE).await;
    // By default, the threads for lookups end after ten seconds without a lookup.
    let threads = || {
        let threads = std::fs::read_dir(format!("/proc/{}/task", worker.pid()));
        threads.unwrap().count()
    };
    let most = threads();
    let fewer = async || (threads() < most).then_some(());
    within(Duration::from_secs(11), fewer).await;
    let start = |_| as_user(user).args(["sleep", "60"]).spawn().unwrap();
    let mut others: Vec<_> = (0..THREADS).map(start).collect();
    let is_other = |process: &std::process::Child| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()));
        status.unwrap().contains(&format!("Uid:\t{user}"))
    };
    eventually("the others run", PATIENCE, async || {
        others.iter().all(is_other).then_some(())
    })
    .await;
    redis.cmd(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    worker.wait_for_log("unavailable", PATIENCE).await;
    let moment = Duration::from_millis(500);
    let panicked = async || (worker.count_log("panicked") > 0).then_some(());
    let panicked = within(moment, panicked).await;
    for other in &mut others {
        other.kill().unwrap();
        other.wait().unwrap();
    }
    assert_eq!(panicked, None);
    redis.add_job(JOB).await;
    worker
        .wait_for_line(|line| line.ends_with("a line"), PATIENCE)
        .await;
    redis.drained(PATIENCE).await;
    worker.term();
    let status = worker.wait_exit(PATIENCE).await;
    assert_eq!((status.code(), status.signal()), (Some(0), None));
}
