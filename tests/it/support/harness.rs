//! The ground the other tests stand on: a test that trusts a Redis that never
//! stopped, or a wait that cannot fail, proves nothing.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{
    Clock, DEAD, FaultProxy, GROUP, MBIT, PATIENCE, Process, ProcessBuilder, Rate, Redis,
    SCHEDULED, STATE, STREAM, SlowLine, eventually, listening_addr, process_exists, stays,
};

const SHORT: Duration = Duration::from_millis(200);

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
        // Redis looks at its clock when a command comes, and ten times a second.
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
    // Bound the way the kernel binds whoever asks for any port.
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
async fn a_proxy_cuts_and_mends_the_network() {
    let redis = Redis::start().await;
    let proxy: FaultProxy = redis.proxy().await;
    let client = redis::Client::open(format!("redis://{}/", proxy.addr())).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let ping = redis::cmd("PING");
    ping.query_async::<()>(&mut connection).await.unwrap();

    proxy.disable().await.unwrap();
    ping.query_async::<()>(&mut connection).await.unwrap_err();
    proxy.enable().await.unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    ping.query_async::<()>(&mut connection).await.unwrap();
}

#[tokio::test]
async fn a_slow_line_carries_what_its_rate_allows_and_buffers_little() {
    let redis = Redis::start().await;
    let line = SlowLine::to(redis.addr()).await;
    redis.cmd(&["SET", "key", &"x".repeat(100_000)]).await;
    let mut client = TcpStream::connect(line.addr()).await.unwrap();
    let mut reply = vec![0; 100_011];
    // One way, both ways under one rate, and without any.
    for (rate, sent) in [
        (Rate::Each(4 * MBIT), 100_000),
        (Rate::Together(4 * MBIT), 200_000),
        (Rate::Unlimited, 0),
    ] {
        line.set_rate(rate);
        let began = Instant::now();
        let echo = format!("*2\r\n$4\r\nECHO\r\n$100000\r\n{}\r\n", "x".repeat(100_000));
        let command = if sent == 200_000 {
            &echo
        } else {
            "*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n"
        };
        client.write_all(command.as_bytes()).await.unwrap();
        client.read_exact(&mut reply).await.unwrap();
        let least = Duration::from_micros(sent * 1_000_000 / (4 * MBIT));
        let took = began.elapsed();
        assert!(took * 10 >= least * 9, "{rate:?}: {took:?}");
        assert!(
            took <= least + Duration::from_millis(150),
            "{rate:?}: {took:?}"
        );
    }
    line.set_delay(Duration::from_millis(100));
    let began = Instant::now();
    client.write_all(b"PING\r\n").await.unwrap();
    client.read_exact(&mut reply[..7]).await.unwrap();
    let took = began.elapsed();
    assert!((200..400).contains(&took.as_millis()), "{took:?}");

    // A server that sends more than the line carries finds it full.
    line.set_delay(Duration::ZERO);
    line.set_rate(Rate::Each(1000));
    redis.cmd(&["SET", "key", &"x".repeat(8_000_000)]).await;
    client.write_all(b"GET key\r\n").await.unwrap();
    eventually("Redis keeps most of the reply", PATIENCE, async || {
        let list: String = redis.query(&["CLIENT", "LIST"]).await;
        let waiting = list.lines().filter_map(|line| {
            let (_, rest) = line.split_once(" omem=")?;
            rest.split(' ').next()?.parse::<u64>().ok()
        });
        (waiting.max()? > 4_000_000).then_some(())
    })
    .await;
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
    expected = "not within 200ms: the impossible (waited for at tests/it/support/harness.rs"
)]
async fn a_condition_that_hangs_ends_at_its_deadline() {
    eventually("the impossible", SHORT, async || -> Option<()> {
        std::future::pending().await
    })
    .await;
}

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
        // Less than a pipe holds, so that it does not wait for the reader.
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
    // What one page in the pipe and one in the reader hold at most.
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
    let expected = [
        "APP_ENV=develop".to_owned(),
        "APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD=p".to_owned(),
        "APP__JOBQUEUE__HOST=127.0.0.1".to_owned(),
        "APP__JOBQUEUE__LEASE=2s".to_owned(),
        "APP__JOBQUEUE__PORT=0".to_owned(),
        "APP__SERVER__HOST=127.0.0.1".to_owned(),
        "APP__SERVER__PORT=0".to_owned(),
        format!("REDIS_JOBQUEUE_ADDR={}", redis.addr()),
    ];
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
