//! A password in a file that changes while the programs run. They need no restart, lose no job and
//! refuse no registration.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use crate::support::{LEASE, Load, PATIENCE, Process, Redis, TestApp, eventually};

/// How soon a program that waits for its operator tries again, on a busy machine.
const NEXT_TRY: Duration = Duration::from_secs(7);
const USERNAME: &str = "APP__CACHE_SERVER__REDIS__JOBQUEUE__USERNAME";
const PASSWORD_FILE: &str = "APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD_FILE";

/// A secret as Kubernetes mounts it. The file is a link through a directory that is replaced in one
/// step.
struct Mounted {
    dir: TempDir,
    versions: u32,
}

impl Mounted {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        symlink("..data/password", dir.path().join("password")).unwrap();
        Self { dir, versions: 0 }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("password")
    }

    fn set(&mut self, password: &str) {
        self.versions += 1;
        let version = format!("..version{}", self.versions);
        let (path, next) = (self.dir.path(), self.dir.path().join("..next"));
        fs::create_dir(path.join(&version)).unwrap();
        fs::write(path.join(&version).join("password"), password).unwrap();
        symlink(&version, &next).unwrap();
        fs::rename(next, path.join("..data")).unwrap();
    }
}

async fn run(operator: &mut MultiplexedConnection, command: &str) {
    let mut words = command.split(' ');
    let mut cmd = redis::cmd(words.next().unwrap());
    cmd.arg(words.collect::<Vec<_>>());
    cmd.query_async::<redis::Value>(operator).await.unwrap();
}

/// The ids of the connections with this name.
async fn connections(redis: &Redis, name: &str) -> Vec<String> {
    let list: String = redis.query(&["CLIENT", "LIST"]).await;
    let name = format!(" name=jobqueue-{name} ");
    let ours = list.lines().filter(|line| line.contains(&name));
    let ids = ours.filter_map(|line| line.strip_prefix("id=")?.split(' ').next());
    let mut ids: Vec<String> = ids.map(str::to_owned).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn a_new_password_is_taken_up_under_load_without_a_restart() {
    let redis = Redis::builder()
        .durable()
        .directive("aclfile", "users.acl")
        .reserve();
    let users = "user default on nopass ~* &* +@all\n\
                 user app on >old ~jobqueue:* +@read +@write +@scripting +hello +time +client\n";
    fs::write(redis.dir().join("users.acl"), users).unwrap();
    redis.up().await;
    let mut secret = Mounted::new();
    secret.set("old\n");
    let path = secret.path();
    let env = [(USERNAME, "app"), (PASSWORD_FILE, path.to_str().unwrap())];
    let app = TestApp::with(redis, &env).await;
    app.server.wait_ready(PATIENCE).await;
    let redis = &app.redis;
    let start = || app.worker().envs(&env).envs(&[LEASE]).start();
    let mut workers = vec![start(), start()];
    let load = Load::start(&app, Duration::from_millis(5), "0s");
    let running = async |more: u64| {
        let enough = load.sent() + more;
        eventually("the load goes on", PATIENCE, async || {
            (load.sent() >= enough).then_some(())
        })
        .await;
    };
    running(50).await;

    // These are the steps of docs/operations.md: add the new password, hand it out, remove the old one.
    redis.cmd(&["ACL", "SETUSER", "app", ">new"]).await;
    secret.set("new\n");
    workers.push(start());
    running(50).await;
    eventually("the third worker is connected", PATIENCE, async || {
        (connections(redis, "shared").await.len() == 4).then_some(())
    })
    .await;
    let kept = connections(redis, "shared").await;
    redis.cmd(&["ACL", "SETUSER", "app", "<old"]).await;
    running(50).await;
    // The heartbeats' connections end, and are opened again with the new password.
    for id in connections(redis, "heartbeat").await {
        redis.cmd(&["CLIENT", "KILL", "ID", &id]).await;
    }
    eventually("heartbeats are connected again", PATIENCE, async || {
        (connections(redis, "heartbeat").await.len() == 3).then_some(())
    })
    .await;
    running(50).await;
    assert_eq!(connections(redis, "shared").await, kept);
    let answers = load.stop().await;
    assert_eq!((answers.refused.len(), answers.unknown.len()), (0, 0));
    app.drained(PATIENCE).await;
    answers.each_printed_once(&workers.iter().collect::<Vec<_>>());

    // Redis has only the new password when it comes back.
    redis.cmd(&["ACL", "SAVE"]).await;
    redis.stop().await;
    redis.up().await;
    for program in workers.iter().chain([&app.server]) {
        program.wait_ready(Duration::from_secs(5)).await;
        assert_eq!(program.count_log("WRONGPASS"), 0);
    }
    app.registered(serde_json::json!({"delay": "0s"})).await;
    app.drained(PATIENCE).await;
}

#[tokio::test]
async fn a_new_requirepass_is_taken_up_without_a_restart() {
    let redis = Redis::start().await;
    let mut operator = redis.connect().await.unwrap();
    run(&mut operator, "CONFIG SET requirepass old").await;
    let mut secret = Mounted::new();
    secret.set("old");
    let path = secret.path();
    let env = [(PASSWORD_FILE, path.to_str().unwrap())];
    let programs =
        [Process::server, Process::jobqueue].map(|program| program(&redis).envs(&env).start());
    for program in &programs {
        program.wait_ready(PATIENCE).await;
    }
    secret.set("new");
    run(&mut operator, "CONFIG SET requirepass new").await;
    run(&mut operator, "CLIENT KILL TYPE normal SKIPME yes").await;
    for program in &programs {
        program
            .wait_for_log("redis is available again", PATIENCE)
            .await;
        program.wait_ready(Duration::from_secs(5)).await;
        assert_eq!(program.count_log("WRONGPASS"), 0);
    }
}

#[tokio::test]
async fn a_password_file_that_comes_late_or_is_mended_is_waited_for() {
    let redis = Redis::builder().password("right").start().await;
    let nobody = Redis::reserve();
    let mut secret = Mounted::new();
    let path = secret.path();
    let env = [(PASSWORD_FILE, path.to_str().unwrap())];
    let programs = [Process::server, Process::jobqueue].map(|program| {
        let program = program(&nobody).redis_addr(redis.addr());
        program.envs(&env).start()
    });
    let said = async |part: &str| {
        for program in &programs {
            let reason = eventually(part, NEXT_TRY, async || {
                let (_, reason) = program.get("/ready").await;
                reason.contains(part).then_some(reason)
            });
            let reason = reason.await;
            assert!(reason.contains(path.to_str().unwrap()), "{reason}");
        }
    };
    said("no such file or directory").await;
    secret.set("wrong");
    said("WRONGPASS").await;
    secret.set("right\r\n");
    for program in &programs {
        program.wait_ready(NEXT_TRY).await;
    }
}
