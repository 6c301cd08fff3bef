//! Which user of Redis the programs are. On each of their connections they are the user that was
//! named, and no other.

use std::time::Duration;

use crate::support::{PATIENCE, Process, Redis, eventually};

/// The longest time from the operator's repair until all is well.
const MENDED: Duration = Duration::from_secs(7);
const USERNAME: &str = "APP__CACHE_SERVER__REDIS__JOBQUEUE__USERNAME";

/// The users of all connections that have a name of the programs.
async fn users(redis: &Redis) -> Vec<String> {
    let list: String = redis.query(&["CLIENT", "LIST"]).await;
    let ours = list.lines().filter(|line| line.contains(" name=jobqueue-"));
    let users = ours.map(|line| {
        let (_, rest) = line.split_once(" user=").unwrap();
        rest.split(' ').next().unwrap().to_owned()
    });
    users.collect()
}

/// Waits until the server's connection and the worker's connections (shared, fetch, heartbeat) are
/// all of the user alice.
async fn all_are_alice(redis: &Redis) {
    let users = eventually("all are connected", PATIENCE, async || {
        let users = users(redis).await;
        (users.len() >= 4).then_some(users)
    })
    .await;
    assert!(users.iter().all(|user| user == "alice"), "{users:?}");
}

fn start_both(redis: &Redis, env: &[(&str, &str)]) -> [Process; 2] {
    [Process::server, Process::jobqueue].map(|program| program(redis).envs(env).start())
}

async fn ready(programs: &[Process]) {
    for program in programs {
        program.wait_ready(MENDED).await;
    }
}

#[tokio::test]
async fn a_user_without_a_password_is_that_user_on_every_connection() {
    let redis = Redis::start().await;
    let socket = redis.dir().join("redis.sock");
    redis
        .cmd(&["ACL", "SETUSER", "alice", "on", "nopass", "~*", "+@all"])
        .await;
    let with_user = format!("redis://alice@{}", redis.addr());
    let with_socket = format!("unix://{}?user=alice", socket.display());
    let by_socket = Redis::builder()
        .directive("unixsocket", socket.to_str().unwrap())
        .directive("user", "alice on nopass ~* +@all")
        .start()
        .await;
    for (redis, env) in [
        (&redis, [("REDIS_JOBQUEUE_ADDR", with_user.as_str())]),
        (&redis, [(USERNAME, "alice")]),
        (&by_socket, [("REDIS_JOBQUEUE_ADDR", with_socket.as_str())]),
    ] {
        let programs = start_both(redis, &env);
        ready(&programs).await;
        redis.add_job(r#"{"type":"demo:delay_print"}"#).await;
        programs[1].wait_for_lines(1, PATIENCE).await;
        all_are_alice(redis).await;
    }
}

#[tokio::test]
async fn a_user_whose_password_is_missing_is_refused_and_not_somebody_else() {
    let redis = Redis::start().await;
    redis
        .cmd(&["ACL", "SETUSER", "alice", "on", ">s3cret", "~*", "+@all"])
        .await;
    let programs = start_both(&redis, &[(USERNAME, "alice")]);
    for program in &programs {
        let reason = program.wait_not_ready(PATIENCE).await;
        let reason = match reason.contains("WRONGPASS") {
            true => reason,
            false => {
                program.wait_for_log("WRONGPASS", PATIENCE).await;
                program.wait_not_ready(PATIENCE).await
            }
        };
        assert!(reason.contains("WRONGPASS"), "{reason}");
    }
    assert_eq!(users(&redis).await, [""; 0], "nobody is connected");
    redis.cmd(&["ACL", "SETUSER", "alice", "nopass"]).await;
    ready(&programs).await;
    all_are_alice(&redis).await;
}

#[tokio::test]
async fn a_redis_whose_default_user_is_off_is_used_by_another() {
    let redis = Redis::start().await;
    let mut operator = redis.connect().await.unwrap();
    redis
        .cmd(&["ACL", "SETUSER", "alice", "on", "nopass", "~*", "+@all"])
        .await;
    redis.cmd(&["ACL", "SETUSER", "default", "off"]).await;
    let programs = start_both(&redis, &[(USERNAME, "alice")]);
    ready(&programs).await;
    let default = redis::cmd("ACL")
        .arg(&["SETUSER", "default", "on"])
        .query_async::<()>(&mut operator)
        .await;
    default.unwrap();
    all_are_alice(&redis).await;
}
