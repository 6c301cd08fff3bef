//! Connections that are kept for the next request. They are kept as long as the settings say, and
//! no request is lost. A connection on which a request has begun is closed at the limit of the
//! request.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout, timeout_at};

use crate::support::{
    PATIENCE, Process, ProcessBuilder, REGISTER, RawAnswer, RawClient, Redis, TestApp, exchange,
};

type Start = fn(&Redis) -> ProcessBuilder;
const BOTH: [(Start, &str); 2] = [
    (Process::server, "APP__SERVER"),
    (Process::jobqueue, "APP__JOBQUEUE"),
];

const GET: &str = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
/// The time that a request may take from its first byte on, and the pause before it, in tests that
/// set them.
const READ_TIMEOUT: Duration = Duration::from_millis(400);
const IDLE_TIMEOUT: Duration = Duration::from_millis(1500);
/// How late an event may be on a busy machine.
const LATE: Duration = Duration::from_millis(900);

/// A program with these limits. It needs no Redis.
fn limited(start: Start, section: &str, redis: &Redis) -> Process {
    let ms = |time: Duration| format!("{}ms", time.as_millis());
    start(redis)
        .env(&format!("{section}__READ_TIMEOUT"), &ms(READ_TIMEOUT))
        .env(&format!("{section}__IDLE_TIMEOUT"), &ms(IDLE_TIMEOUT))
        .start()
}

/// Waits until the server closes the connection, and returns how long that took.
async fn closed(client: &mut RawClient) -> Duration {
    let began = Instant::now();
    let rest = client.rest().await;
    assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
    began.elapsed()
}

fn assert_took(took: Duration, limit: Duration, what: &str) {
    assert!(
        took + Duration::from_millis(50) >= limit,
        "{what}: {took:?}"
    );
    assert!(took <= limit + LATE, "{what}: {took:?}");
}

#[tokio::test]
async fn a_connection_is_kept_for_longer_than_a_request_may_take() {
    let redis = Redis::reserve();
    let processes = BOTH.map(|(start, _)| start(&redis).start());
    let mut pool = Vec::new();
    for process in &processes {
        let addr = process.http_addr().await;
        // One connection was opened ahead, and one was used.
        for requests in [0, 1] {
            let mut client = RawClient::connect(addr).await;
            for _ in 0..requests {
                assert_eq!(client.ask(GET).await.status, 200);
            }
            pool.push(client);
        }
    }
    // This is a second longer than the head of a request may take.
    let end = tokio::time::Instant::now() + Duration::from_secs(6);
    for client in &pool {
        let changed = timeout_at(end, client.changed()).await;
        assert!(changed.is_err(), "closed early");
    }
    for client in &mut pool {
        assert_eq!(client.ask(GET).await.status, 200);
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_with_half_a_request_sooner() {
    let redis = Redis::reserve();
    for (start, section) in BOTH {
        let process = limited(start, section, &redis);
        let addr = process.http_addr().await;
        let connect = async || RawClient::connect(addr).await;
        let silent = async {
            assert_took(closed(&mut connect().await).await, IDLE_TIMEOUT, "silent");
        };
        let idle = async {
            let mut client = connect().await;
            for _ in 0..3 {
                client.ask(GET).await;
                sleep(READ_TIMEOUT).await;
            }
            client.ask(GET).await;
            assert_took(closed(&mut client).await, IDLE_TIMEOUT, "idle");
        };
        let half = async {
            let mut client = connect().await;
            client.ask(GET).await;
            // The time before the first byte does not count for the request.
            sleep(READ_TIMEOUT * 2).await;
            client.send(&GET[..20]).await;
            assert_took(closed(&mut client).await, READ_TIMEOUT, "half a head");
        };
        let trickle = async {
            let mut client = connect().await;
            let began = Instant::now();
            let more = async {
                client.send("GET / HTTP/1.1\r\n").await;
                while client.try_send("x: y\r\n").await.is_ok() {
                    sleep(Duration::from_millis(20)).await;
                }
            };
            timeout(PATIENCE, more).await.expect("it is not closed");
            assert_took(began.elapsed(), READ_TIMEOUT, "trickle");
        };
        tokio::join!(silent, idle, half, trickle);
    }
}

/// A request that comes at the end of the pause is either answered or has no effect.
#[tokio::test]
async fn no_request_is_lost_when_the_pause_ends() {
    let redis = Redis::start().await;
    let server = limited(Process::server, "APP__SERVER", &redis);
    server.wait_ready(PATIENCE).await;
    let app = TestApp::around(redis, server).await;
    let addr = app.server.http_addr().await;
    let mut clients = JoinSet::new();
    for n in 0..200 {
        clients.spawn(registers_at_the_end_of_the_pause(addr, n));
    }
    let answers = clients.join_all().await;
    let registered = answers.iter().flatten().count();
    eprintln!("{registered} of {} were in time", answers.len());
    for answer in answers.iter().flatten() {
        assert!(
            answer.status == 201 && answer.text().ends_with('}'),
            "{answer:?}"
        );
    }
    assert!(registered > 0, "none was in time");
    assert_eq!(app.redis.xlen().await, registered as u64);
}

/// The answer to a registration that comes at the end of the pause. `None` when the connection was
/// closed before.
async fn registers_at_the_end_of_the_pause(addr: SocketAddr, n: u64) -> Option<RawAnswer> {
    let mut client = RawClient::connect(addr).await;
    assert_eq!(client.ask(GET).await.status, 200);
    // The request comes between 10 ms before and 10 ms after the end.
    sleep(IDLE_TIMEOUT - Duration::from_millis(10) + Duration::from_micros(n * 100)).await;
    let request = format!(
        "POST {REGISTER} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
    );
    client.try_send(request).await.ok();
    let rest = client.rest().await;
    let answer = RawAnswer::last(&rest);
    assert!(answer.is_some() || rest.is_empty(), "{rest:?}");
    answer
}

#[tokio::test]
async fn requests_that_come_together_leave_the_connection_open() {
    let redis = Redis::reserve();
    for (start, section) in BOTH {
        let process = limited(start, section, &redis);
        let mut client = RawClient::connect(process.http_addr().await).await;
        client.send(GET.repeat(3)).await;
        for _ in 0..3 {
            assert_eq!(client.answer().await.status, 200);
        }
        // The first bytes of this request came together with another request.
        client.ask(format!("{GET}{}", &GET[..20])).await;
        assert_eq!(client.ask(&GET[20..]).await.status, 200);
        assert_took(closed(&mut client).await, IDLE_TIMEOUT, section);
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_keeps_its_connection_when_it_asks_for_that() {
    let redis = Redis::reserve();
    for (start, section) in BOTH {
        let process = limited(start, section, &redis);
        let addr = process.http_addr().await;
        let mut client = RawClient::connect(addr).await;
        for _ in 0..3 {
            let request = "GET /health HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n";
            let answer = client.ask(request).await;
            assert!(answer.head().starts_with("http/1.0 200 "), "{answer:?}");
            assert_eq!(answer.header("connection"), Some("keep-alive"));
            sleep(READ_TIMEOUT).await;
        }
        client.ask("GET /health HTTP/1.0\r\n\r\n").await;
        assert_took(closed(&mut client).await, Duration::ZERO, section);
    }
}

#[tokio::test]
async fn a_body_may_take_no_longer_than_a_head() {
    let redis = Redis::reserve();
    let server = Process::server(&redis)
        .env("APP__SERVER__READ_TIMEOUT", "400ms")
        .env("APP__SERVER__REQUEST_TIMEOUT", "20s")
        .start();
    let addr = server.http_addr().await;
    let half = format!("POST {REGISTER} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{");
    let began = Instant::now();
    let answer = exchange(addr, half).await.unwrap();
    assert_eq!(answer.status, 408, "{answer:?}");
    assert_took(began.elapsed(), READ_TIMEOUT, "body");
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up_after_the_write_timeout() {
    let redis = Redis::reserve();
    let server = Process::server(&redis)
        .env("APP__SERVER__WRITE_TIMEOUT", "500ms")
        .start();
    let addr = server.http_addr().await;
    let mut client = RawClient::with_small_buffers(addr).await.unwrap();
    let began = Instant::now();
    let requests = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(500);
    let sending = client.try_send(requests);
    timeout(Duration::from_millis(300), sending).await.ok();
    client.closed_while_sending().await;
    let lived = began.elapsed();
    assert!(lived < Duration::from_secs(3), "{lived:?}");
}
