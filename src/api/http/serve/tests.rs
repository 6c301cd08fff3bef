//! A real server on a port of its own, and clients that behave badly, together, or late.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use axum::routing::get;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::api::http::listen::bind;

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(10);

const LIMIT: usize = 8;

/// A client may take `head` for its headers and as long between two requests, and twice as long
/// for its answer.
fn patience(head: Duration) -> HttpConfig {
    HttpConfig {
        read_timeout: head,
        write_timeout: head * 2,
        idle_timeout: head,
    }
}

struct TestServer {
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<io::Result<()>>,
    /// A request to `/slow` has reached its handler.
    reached: Arc<Notify>,
    /// Lets the handler of `/slow` finish.
    finish: Arc<Notify>,
}

impl TestServer {
    async fn start(grace: Duration, http: HttpConfig) -> Self {
        let (reached, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let slow = {
            let (reached, finish) = (reached.clone(), finish.clone());
            async move || {
                reached.notify_one();
                finish.notified().await;
                "done"
            }
        };
        let router = Router::new()
            .route("/", get(async || "hello"))
            .route(
                "/panic",
                get(async || -> &'static str { panic!("on purpose") }),
            )
            .route("/slow", get(slow));
        let listener = bind("127.0.0.1", 0, "server").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let limits = Limits {
            connections: LIMIT,
            http,
            drain_delay: Duration::ZERO,
            grace,
        };
        let serving = tokio::spawn(serve(listener, router, limits, stop.clone()));
        Self {
            address,
            stop,
            serving,
            reached,
            finish,
        }
    }

    async fn send(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    async fn stopped(self) {
        timeout(LONG, self.serving).await.unwrap().unwrap().unwrap();
    }
}

/// What the server sends until it closes the connection, and how long that takes.
async fn read_to_end(mut stream: TcpStream) -> (String, Duration) {
    let started = Instant::now();
    let mut bytes = Vec::new();
    // A reset ends a connection as well as an orderly close.
    drop(timeout(LONG, stream.read_to_end(&mut bytes)).await.unwrap());
    (String::from_utf8(bytes).unwrap(), started.elapsed())
}

async fn read_some(stream: &mut TcpStream) -> String {
    let mut bytes = vec![0; 4096];
    let len = timeout(LONG, stream.read(&mut bytes))
        .await
        .unwrap()
        .unwrap();
    String::from_utf8(bytes[..len].to_vec()).unwrap()
}

const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
const GET_SLOW: &str = "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn a_client_that_never_finishes_its_headers_is_cut_off() {
    let limit = Duration::from_millis(300);
    let server = TestServer::start(LONG, patience(limit)).await;
    for start in ["", "G", "GET / HTTP/1.1\r\nhost: x\r\nx-slow: "] {
        let (_, took) = read_to_end(server.send(start).await).await;
        assert!(took < LONG / 2, "{start:?} {took:?}");
        assert!(took > limit / 2, "{start:?} {took:?}");
    }
}

#[tokio::test]
async fn a_trickle_of_headers_is_cut_off_too() {
    let server = TestServer::start(LONG, patience(Duration::from_millis(300))).await;
    let mut stream = server.send("GET / HTTP/1.1\r\n").await;
    let started = Instant::now();
    let trickle = async {
        while stream.write_all(b"x: y\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LONG, trickle).await.unwrap();
    assert!(started.elapsed() < LONG / 2);
}

#[tokio::test]
async fn a_handler_may_take_longer_than_the_headers() {
    let limit = Duration::from_millis(50);
    let server = TestServer::start(LONG, patience(limit)).await;
    let mut stream = server.send(GET_SLOW).await;
    server.reached.notified().await;
    tokio::time::sleep(limit * 3).await;
    server.finish.notify_one();
    assert!(read_some(&mut stream).await.ends_with("done"));
}

#[tokio::test]
async fn requests_that_come_together_take_turns_with_those_of_others() {
    let server = TestServer::start(LONG, patience(LONG)).await;
    let (mut greedy, mut other) = (server.send(GET).await, server.send(GET).await);
    for stream in [&mut greedy, &mut other] {
        assert!(read_some(stream).await.ends_with("hello"));
    }
    greedy.write_all(GET.repeat(200).as_bytes()).await.unwrap();
    other.write_all(GET.as_bytes()).await.unwrap();
    assert!(read_some(&mut other).await.ends_with("hello"));
    let answered = read_some(&mut greedy).await.matches("hello").count();
    assert!(answered < 8, "{answered} before the other");
}

#[tokio::test]
async fn a_panic_of_a_handler_ends_its_connection_only() {
    let server = TestServer::start(LONG, patience(LONG)).await;
    let panics = server.send("GET /panic HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(read_to_end(panics).await.0, "");
    let mut stream = server.send(GET).await;
    assert!(read_some(&mut stream).await.ends_with("hello"));
}

#[tokio::test]
async fn a_request_in_progress_is_answered_after_the_stop() {
    let server = TestServer::start(LONG, patience(LONG)).await;
    let in_progress = server.send(GET_SLOW).await;
    server.reached.notified().await;
    server.stop.cancel();
    let refused = async {
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, refused).await.unwrap();
    assert!(!server.serving.is_finished());
    server.finish.notify_one();
    assert!(read_to_end(in_progress).await.0.ends_with("done"));
    server.stopped().await;
}

#[tokio::test]
async fn idle_connections_do_not_delay_the_stop() {
    let server = TestServer::start(LONG, patience(LONG)).await;
    let mut used = server.send(GET).await;
    assert!(read_some(&mut used).await.ends_with("hello"));
    let _unused = server.send("").await;
    // Connections are accepted in order: when this one is answered, the unused one is accepted.
    let mut later = server.send(GET).await;
    assert!(read_some(&mut later).await.ends_with("hello"));

    let started = Instant::now();
    server.stop.cancel();
    server.stopped().await;
    assert!(started.elapsed() < LONG / 2);
}

#[tokio::test]
async fn a_request_that_outlasts_the_grace_is_cut_off() {
    let server = TestServer::start(Duration::from_millis(100), patience(LONG)).await;
    let in_progress = server.send(GET_SLOW).await;
    server.reached.notified().await;
    server.stop.cancel();
    assert_eq!(read_to_end(in_progress).await.0, "");
    server.stopped().await;
}
