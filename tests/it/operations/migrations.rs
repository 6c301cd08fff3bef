//! The first program that connects to Redis creates the schema, also when Redis holds jobs or other
//! keys already.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use crate::support::{GROUP, PATIENCE, Process, Redis, STATE, STREAM, eventually};

const PRINT: &str = r#"{"type":"demo:delay_print","payload":{"message":"x"}}"#;

#[tokio::test]
async fn jobs_that_were_there_before_the_group_are_run() {
    let redis = Redis::start().await;
    for _ in 0..3 {
        redis.add_job(PRINT).await;
    }
    let worker = Process::jobqueue(&redis).start();
    worker.wait_for_lines(3, PATIENCE).await;
    assert_eq!(redis.state().await["version"], "2");
}

#[tokio::test]
async fn programs_that_start_at_once_make_one_schema() {
    let redis = Redis::start().await;
    let workers = [(); 4].map(|()| Process::jobqueue(&redis).start());
    let server = Process::server(&redis).start();
    for process in workers.iter().chain([&server]) {
        process.wait_for_log("connected to redis", PATIENCE).await;
        process.wait_ready(PATIENCE).await;
    }
    let processes = workers.iter().chain([&server]);
    let made: usize = processes.map(|each| each.count_log("consumer group")).sum();
    assert_eq!(made, 1);
    let errors: String = redis.query(&["INFO", "errorstats"]).await;
    assert!(!errors.contains("BUSYGROUP"), "{errors}");
}

#[tokio::test]
async fn a_newer_version_is_not_lowered() {
    let redis = Redis::start().await;
    redis.cmd(&["HSET", STATE, "version", "7"]).await;
    let worker = Process::jobqueue(&redis).start();
    worker.wait_ready(PATIENCE).await;
    assert_eq!(redis.state().await["version"], "7");
}

#[tokio::test]
async fn the_migration_runs_by_hand_as_its_readme_says() {
    let redis = Redis::start().await;
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/migrations/0001_create_consumer_group.lua"
    );
    for created in ["1", "0"] {
        let out = Command::new("redis-cli")
            .args([
                "-p",
                &redis.port().to_string(),
                "--eval",
                script,
                STREAM,
                STATE,
                ",",
                GROUP,
            ])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), created);
    }
}

#[tokio::test]
async fn a_group_that_is_deleted_under_workers_is_made_anew_at_the_beginning() {
    let redis = Redis::start().await;
    let worker = Process::jobqueue(&redis).start();
    worker.wait_ready(PATIENCE).await;
    redis.cmd(&["XGROUP", "DESTROY", STREAM, GROUP]).await;
    redis.add_job(PRINT).await;
    worker.wait_for_lines(1, PATIENCE).await;
    redis.drained(PATIENCE).await;
    eventually("it is ready again", PATIENCE, async || {
        (worker.get("/ready").await.0 == 200).then_some(())
    })
    .await;
}

/// The command that `migrations/README.md` shows, with the port of `redis` added to it.
fn documented_command(redis: &Redis) -> Command {
    let home = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/README.md");
    let readme = std::fs::read_to_string(home).unwrap();
    let (_, command) = readme.split_once("    redis-cli --eval ").unwrap();
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(format!("redis-cli -p {} --eval {command}", redis.port()))
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    shell
}

#[tokio::test]
async fn the_documented_command_makes_the_schema_once_however_many_run_it_at_once() {
    let redis = Redis::start().await;
    redis.add_job(PRINT).await;
    let running = [(); 8].map(|()| {
        documented_command(&redis)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    });
    let mut answers = Vec::new();
    for each in running {
        let out = each.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stderr), "");
        answers.push(String::from_utf8(out.stdout).unwrap().trim().to_owned());
    }
    answers.sort_unstable();
    assert_eq!(answers.concat(), "00000001");
    let groups: Vec<BTreeMap<String, redis::Value>> =
        redis.query(&["XINFO", "GROUPS", STREAM]).await;
    let text = |field: &str| redis::from_redis_value_ref::<String>(&groups[0][field]).unwrap();
    assert_eq!((groups.len(), text("name")), (1, GROUP.to_owned()));
    assert_eq!(text("last-delivered-id"), "0-0");
    assert_eq!(redis.state().await["version"], "1");
    assert_eq!(redis.xlen().await, 1);
}

#[tokio::test]
async fn a_key_of_a_wrong_type_stops_a_migration_before_its_first_write() {
    for (wrong, other) in [(STREAM, STATE), (STATE, STREAM)] {
        let redis = Redis::start().await;
        redis.cmd(&["SET", wrong, "mine"]).await;
        let out = documented_command(&redis).output().unwrap();
        let said = [out.stdout, out.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("WRONGTYPE"), "{said}");
        let (kept, made): (String, u64) = (
            redis.query(&["GET", wrong]).await,
            redis.query(&["EXISTS", other]).await,
        );
        assert_eq!((kept.as_str(), made), ("mine", 0));
    }
}

#[tokio::test]
async fn each_fresh_connection_runs_all_migrations_whatever_the_version() {
    let redis = Redis::start().await;
    let server = Process::server(&redis).start();
    server.wait_ready(PATIENCE).await;
    redis.add_job(PRINT).await;
    redis.cmd(&["HSET", STATE, "version", "7"]).await;
    redis.cmd(&["XGROUP", "DESTROY", STREAM, GROUP]).await;
    let cut: u64 = redis.query(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    assert!(cut > 0);
    // There is no worker here, so the server creates the group.
    let lag = eventually("the group is there", PATIENCE, async || {
        redis.backlog().await.lag
    });
    assert_eq!(lag.await, 1);
    assert_eq!(redis.state().await["version"], "7");
}

#[tokio::test]
async fn an_emptied_redis_gets_its_version_again() {
    let redis = Redis::start().await;
    let worker = Process::jobqueue(&redis).start();
    worker.wait_ready(PATIENCE).await;
    redis.cmd(&["FLUSHALL"]).await;
    redis.add_job(PRINT).await;
    worker.wait_for_lines(1, PATIENCE).await;
    assert_eq!(redis.state().await["version"], "2");
}
