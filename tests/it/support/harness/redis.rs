//! A Redis for one test, its clock, and the reading of its queue.

use std::time::{SystemTime, UNIX_EPOCH};

use super::SHORT;
use crate::support::{
    Clock, DEAD, GROUP, Redis, SCHEDULED, STATE, STREAM, eventually, process_exists,
};

#[tokio::test]
async fn a_redis_is_reachable_and_new() {
    let redis = Redis::start().await;
    assert_eq!(redis.query::<u64>(&["DBSIZE"]).await, 0);
    assert_eq!(redis.query::<String>(&["ECHO", "hello"]).await, "hello");
}

#[tokio::test]
async fn redis_servers_do_not_collide() {
    let mut servers = Vec::new();
    for number in 0..6 {
        let redis = Redis::start().await;
        redis.cmd(&["SET", "number", &number.to_string()]).await;
        servers.push(redis);
    }
    for (number, redis) in servers.iter().enumerate() {
        assert_eq!(redis.query::<usize>(&["GET", "number"]).await, number);
    }
}

#[tokio::test]
async fn a_durable_redis_comes_back_on_its_port_with_its_data() {
    let redis = Redis::durable().await;
    let port = redis.port();
    redis.cmd(&["SET", "key", "kept through a kill"]).await;
    redis.kill();
    assert_refused(&redis).await;
    redis.up().await;
    assert_eq!(
        redis.query::<String>(&["GET", "key"]).await,
        "kept through a kill"
    );

    redis.cmd(&["SET", "key", "kept through a stop"]).await;
    redis.stop().await;
    assert_refused(&redis).await;
    redis.up().await;
    assert_eq!(
        redis.query::<String>(&["GET", "key"]).await,
        "kept through a stop"
    );

    redis.stop().await;
    redis.up_empty().await;
    assert_eq!(redis.query::<u64>(&["DBSIZE"]).await, 0);
    assert_eq!(redis.port(), port);
}

async fn assert_refused(redis: &Redis) {
    let error = redis.try_cmd(&["PING"]).await.unwrap_err();
    assert!(error.is_connection_refusal(), "{error}");
}

#[tokio::test]
async fn a_redis_without_persistence_comes_back_empty() {
    let redis = Redis::start().await;
    redis.cmd(&["SET", "key", "value"]).await;
    redis.stop().await;
    redis.up().await;
    assert_eq!(redis.query::<u64>(&["DBSIZE"]).await, 0);
}

#[tokio::test]
async fn the_clock_of_a_redis_is_set_while_it_runs_and_stays_set_through_a_restart() {
    let clock = Clock::new();
    let redis = Redis::builder().clock(&clock).start().await;
    let ahead_ms = async || {
        let real = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let real = i64::try_from(real.as_millis()).unwrap();
        i64::try_from(redis.now_ms().await).unwrap() - real
    };
    for offset in [0, 3_600_000, -3_600_000, -8_123, 999] {
        clock.set(offset);
        // Redis reads its clock when a command comes, and ten times a second.
        let is = ahead_ms().await;
        assert!((is - offset).abs() < 200, "{is} instead of {offset}");
    }
    redis.stop().await;
    clock.set(-60_000);
    redis.up().await;
    assert!((ahead_ms().await + 60_000).abs() < 200);
}

#[tokio::test]
async fn a_dropped_redis_is_gone_even_when_frozen() {
    let redis = Redis::start().await;
    let (pid, addr, dir) = (redis.pid(), redis.addr(), redis.dir());
    redis.freeze();
    assert!(process_exists(pid) && dir.exists());
    drop(redis);
    assert!(!process_exists(pid));
    assert!(!dir.exists());
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn a_reserved_port_refuses_until_its_redis_is_up() {
    let redis = Redis::reserve();
    // The kernel binds like this for a program that asks for any port.
    let stranger = || {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(redis.addr().parse().unwrap())
    };
    for _ in 0..2 {
        assert!(stranger().is_err() || !cfg!(target_os = "linux"));
        assert_refused(&redis).await;
        redis.up().await;
        redis.cmd(&["PING"]).await;
        redis.kill();
    }
    assert!(stranger().is_err() || !cfg!(target_os = "linux"));
}

#[tokio::test]
async fn a_frozen_redis_answers_only_when_resumed() {
    let redis = Redis::start().await;
    redis.freeze();
    let ping = tokio::time::timeout(SHORT, redis.try_cmd(&["PING"]));
    assert!(ping.await.is_err());
    redis.resume();
    redis.cmd(&["PING"]).await;
}

#[tokio::test]
async fn a_password_and_directives_reach_the_server() {
    let password = r#"1e5 "quoted" \ ünd #more"#;
    let builder = Redis::builder().password(password);
    let redis = builder.directive("maxmemory", "7mb").start().await;
    let maxmemory: (String, u64) = redis.query(&["CONFIG", "GET", "maxmemory"]).await;
    assert_eq!(maxmemory.1, 7 * 1024 * 1024);

    let url = format!("redis://{}/", redis.addr());
    let stranger = redis::Client::open(url).unwrap();
    let mut stranger = stranger.get_multiplexed_async_connection().await.unwrap();
    let refused: redis::RedisResult<String> = redis::cmd("PING").query_async(&mut stranger).await;
    assert_eq!(refused.unwrap_err().code(), Some("NOAUTH"));
}

#[tokio::test]
async fn the_backlog_counts_each_place_of_a_job() {
    let redis = Redis::start().await;
    let empty = redis.backlog().await;
    assert_eq!(
        (empty.stream, empty.pending, empty.scheduled, empty.dead),
        (0, 0, 0, 0)
    );
    assert_eq!((empty.lag, empty.consumers.len()), (None, 0));
    redis.drained(SHORT).await;

    redis
        .cmd(&["XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM"])
        .await;
    let first = redis.add_job(r#"{"type":"demo:delay_print"}"#).await;
    redis.add_job("{}").await;
    redis
        .cmd(&[
            "XREADGROUP",
            "GROUP",
            GROUP,
            "me",
            "COUNT",
            "1",
            "STREAMS",
            STREAM,
            ">",
        ])
        .await;
    redis
        .cmd(&["ZADD", SCHEDULED, "1767225600123", "1-0:{}"])
        .await;
    redis
        .cmd(&["XADD", DEAD, "7-0", "job", "{}", "reason", "malformed"])
        .await;
    redis.cmd(&["HSET", STATE, "version", "1"]).await;

    let backlog = redis.backlog().await;
    assert_eq!(
        (
            backlog.stream,
            backlog.pending,
            backlog.scheduled,
            backlog.dead
        ),
        (2, 1, 1, 1)
    );
    assert_eq!(backlog.lag, Some(1));
    assert_eq!(backlog.consumers.len(), 1);
    assert_eq!(
        (
            backlog.consumers[0].name.as_str(),
            backlog.consumers[0].pending
        ),
        ("me", 1)
    );

    let pending = redis.pending_entries().await;
    assert_eq!(pending.len(), 1);
    assert_eq!(
        (pending[0].id.as_str(), pending[0].consumer.as_str()),
        (first.as_str(), "me")
    );
    assert_eq!(pending[0].deliveries, 1);
    assert_eq!(redis.entries().await[0].0, first);
    assert_eq!(
        redis.scheduled_jobs().await,
        [("1-0:{}".to_owned(), 1_767_225_600_123)]
    );
    let (id, letter) = redis.dead_letters().await.remove(0);
    assert_eq!(
        (id.as_str(), letter["reason"].as_slice()),
        ("7-0", b"malformed".as_slice())
    );
    assert_eq!(redis.state().await["version"], "1");
}

#[tokio::test]
#[should_panic(expected = "not drained within 200ms: Some(Backlog { stream: 1, ")]
async fn a_queue_with_a_job_left_is_not_drained() {
    let redis = Redis::start().await;
    redis.add_job("{}").await;
    redis.drained(SHORT).await;
}

#[tokio::test]
#[should_panic(
    expected = "not within 200ms: the impossible (waited for at tests/it/support/harness/redis.rs"
)]
async fn a_condition_that_hangs_ends_at_its_deadline() {
    eventually("the impossible", SHORT, async || -> Option<()> {
        std::future::pending().await
    })
    .await;
}
