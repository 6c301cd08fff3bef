//! Connections that are kept for the next request: for as long as the settings say, without a
//! request that is lost, and no longer once a request has begun.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout, timeout_at};

use crate::support::{PATIENCE, Process, ProcessBuilder, Redis, TestApp, eventually};

type Start = fn(&Redis) -> ProcessBuilder;
const BOTH: [(Start, &str); 2] = [
    (Process::server, "APP__SERVER"),
    (Process::jobqueue, "APP__JOBQUEUE"),
];

const GET: &str = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
/// What a request may take from its first byte on, and the pause before it, where a test sets them.
const READ_TIMEOUT: Duration = Duration::from_millis(400);
const IDLE_TIMEOUT: Duration = Duration::from_millis(1500);
/// How much later it may be on a busy machine.
const LATE: Duration = Duration::from_millis(900);

/// A program with these limits, which need no Redis.
fn limited(start: Start, section: &str, redis: &Redis) -> Process {
    let ms = |time: Duration| format!("{}ms", time.as_millis());
    start(redis)
        .env(&format!("{section}__READ_TIMEOUT"), &ms(READ_TIMEOUT))
        .env(&format!("{section}__IDLE_TIMEOUT"), &ms(IDLE_TIMEOUT))
        .start()
}

/// The next answer, as text; nothing when the connection was closed.
async fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let reading = async {
        while !bytes.ends_with(b"OK") && stream.read_buf(&mut bytes).await.unwrap_or(0) > 0 {}
    };
    timeout(PATIENCE, reading).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Sends `text` and reads an answer.
async fn ask(stream: &mut TcpStream, text: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    answer(stream).await
}

/// Waits until the server closes the connection, and returns how long that took.
async fn closed(stream: &mut TcpStream) -> Duration {
    let began = Instant::now();
    let mut rest = Vec::new();
    // A reset is an end as well.
    let reading = timeout(PATIENCE, stream.read_to_end(&mut rest));
    reading.await.expect("it is not closed").ok();
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
        // One that was opened ahead, and one that was used.
        for requests in [0, 1] {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            for _ in 0..requests {
                assert!(ask(&mut stream, GET).await.starts_with("HTTP/1.1 200 "));
            }
            pool.push(stream);
        }
    }
    // A second longer than the head of a request may take.
    let end = tokio::time::Instant::now() + Duration::from_secs(6);
    for stream in &mut pool {
        let closed = timeout_at(end, stream.read_u8()).await;
        assert!(closed.is_err(), "{closed:?}");
    }
    for stream in &mut pool {
        assert!(ask(stream, GET).await.starts_with("HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_with_half_a_request_sooner() {
    let redis = Redis::reserve();
    for (start, section) in BOTH {
        let process = limited(start, section, &redis);
        let addr = process.http_addr().await;
        let connect = async || TcpStream::connect(addr).await.unwrap();
        let silent = async {
            assert_took(closed(&mut connect().await).await, IDLE_TIMEOUT, "silent");
        };
        let idle = async {
            let mut stream = connect().await;
            for _ in 0..3 {
                ask(&mut stream, GET).await;
                sleep(READ_TIMEOUT).await;
            }
            ask(&mut stream, GET).await;
            assert_took(closed(&mut stream).await, IDLE_TIMEOUT, "idle");
        };
        let half = async {
            let mut stream = connect().await;
            ask(&mut stream, GET).await;
            // The time before the first byte is not that of the request.
            sleep(READ_TIMEOUT * 2).await;
            stream.write_all(&GET.as_bytes()[..20]).await.unwrap();
            assert_took(closed(&mut stream).await, READ_TIMEOUT, "half a head");
        };
        let trickle = async {
            let mut stream = connect().await;
            let began = Instant::now();
            let more = async {
                stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
                while stream.write_all(b"x: y\r\n").await.is_ok() {
                    sleep(Duration::from_millis(20)).await;
                }
            };
            timeout(PATIENCE, more).await.expect("it is not closed");
            assert_took(began.elapsed(), READ_TIMEOUT, "trickle");
        };
        tokio::join!(silent, idle, half, trickle);
    }
}

/// A request that meets the end of the pause is answered, or nothing was done with it.
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
    let registered = answers.iter().filter(|answer| !answer.is_empty()).count();
    eprintln!("{registered} of {} were in time", answers.len());
    for answer in answers {
        let whole = answer.starts_with("HTTP/1.1 201 ") && answer.ends_with('}');
        assert!(answer.is_empty() || whole, "{answer:?}");
    }
    assert!(registered > 0, "none was in time");
    assert_eq!(app.redis.xlen().await, registered as u64);
}

async fn registers_at_the_end_of_the_pause(addr: SocketAddr, n: u64) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    assert!(ask(&mut stream, GET).await.starts_with("HTTP/1.1 200 "));
    // From 10 ms before to 10 ms after.
    sleep(IDLE_TIMEOUT - Duration::from_millis(10) + Duration::from_micros(n * 100)).await;
    let request = "POST /api/dm-jobqueue/register HTTP/1.1\r\nhost: x\r\n\
        content-length: 2\r\nconnection: close\r\n\r\n{}";
    stream.write_all(request.as_bytes()).await.ok();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer))
        .await
        .expect("neither an answer nor an end")
        .ok();
    answer
}

#[tokio::test]
async fn requests_that_come_together_leave_the_connection_open() {
    let redis = Redis::reserve();
    for (start, section) in BOTH {
        let process = limited(start, section, &redis);
        let mut stream = TcpStream::connect(process.http_addr().await).await.unwrap();
        let mut answers = ask(&mut stream, &GET.repeat(3)).await;
        while answers.matches("HTTP/1.1 200 ").count() < 3 {
            answers.push_str(&answer(&mut stream).await);
        }
        // The rest of one that came with another one.
        stream
            .write_all(format!("{GET}{}", &GET[..20]).as_bytes())
            .await
            .unwrap();
        answer(&mut stream).await;
        assert!(
            ask(&mut stream, &GET[20..])
                .await
                .starts_with("HTTP/1.1 200 ")
        );
        assert_took(closed(&mut stream).await, IDLE_TIMEOUT, section);
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_keeps_its_connection_when_it_asks_for_that() {
    let redis = Redis::reserve();
    for (start, section) in BOTH {
        let process = limited(start, section, &redis);
        let addr = process.http_addr().await;
        let mut stream = TcpStream::connect(addr).await.unwrap();
        for _ in 0..3 {
            let request = "GET /health HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n";
            let answer = ask(&mut stream, request).await.to_lowercase();
            assert!(answer.starts_with("http/1.0 200 "), "{answer}");
            assert!(
                answer.contains("\r\nconnection: keep-alive\r\n"),
                "{answer}"
            );
            sleep(READ_TIMEOUT).await;
        }
        ask(&mut stream, "GET /health HTTP/1.0\r\n\r\n").await;
        assert_took(closed(&mut stream).await, Duration::ZERO, section);
    }
}

#[tokio::test]
async fn a_body_may_take_no_longer_than_a_head() {
    let redis = Redis::reserve();
    let server = Process::server(&redis)
        .env("APP__SERVER__READ_TIMEOUT", "400ms")
        .env("APP__SERVER__REQUEST_TIMEOUT", "20s")
        .start();
    let mut stream = TcpStream::connect(server.http_addr().await).await.unwrap();
    let head = "POST /api/dm-jobqueue/register HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{";
    let began = Instant::now();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let reading = timeout(PATIENCE, stream.read_to_string(&mut answer));
    reading.await.expect("it is not answered").unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_took(began.elapsed(), READ_TIMEOUT, "body");
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up_after_the_write_timeout() {
    let redis = Redis::reserve();
    let server = Process::server(&redis)
        .env("APP__SERVER__WRITE_TIMEOUT", "500ms")
        .start();
    let addr = server.http_addr().await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let mut client = socket.connect(addr).await.unwrap();
    let began = Instant::now();
    let requests = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(500);
    timeout(
        Duration::from_millis(300),
        client.write_all(requests.as_bytes()),
    )
    .await
    .ok();
    eventually("it is closed", PATIENCE, async || {
        client
            .try_write(b"GET / HTTP/1.1\r\n")
            .err()
            .and_then(|why| {
                let is_full = why.kind() == std::io::ErrorKind::WouldBlock;
                (!is_full).then_some(())
            })
    })
    .await;
    let lived = began.elapsed();
    assert!(lived < Duration::from_secs(3), "{lived:?}");
}
