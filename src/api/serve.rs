//! Serves a router on a listener until told to stop.
//!
//! `axum::serve` waits for ever for a client's headers, so a few thousand slow clients
//! would use up the process' files; axum-server lets hyper's timeout be set.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use axum::Router;
use axum_server::{Handle, accept::NoDelayAcceptor};
use hyper_util::rt::TokioTimer;
use tokio_util::sync::CancellationToken;

use super::throttle::Throttle;

/// How long a client may take over the headers of a request, and how long a connection
/// may be idle between two requests.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves `router` on `listener` until `stop` is cancelled and the requests in
/// progress are answered, which may take `grace` at most.
///
/// After `stop` no connection is accepted, and connections without a request in progress
/// are closed. What is not answered within `grace` is cut off. Raises the
/// process' limit on open files as far as it may.
///
/// # Errors
///
/// When the listener cannot be used. Failures of single connections are no errors.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
    grace: Duration,
) -> io::Result<()> {
    // Often 1,024 by default, which slow clients alone could use up.
    if let Err(why) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!("cannot raise the limit on open files: {why}");
    }
    serve_within(listener, router, stop, grace, HEADER_READ_TIMEOUT).await
}

async fn serve_within(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
    grace: Duration,
    header_read_timeout: Duration,
) -> io::Result<()> {
    let handle = Handle::<SocketAddr>::new();
    let failures = Throttle::default();
    let mut server = axum_server::from_tcp(listener)?
        .http1_only()
        .acceptor(NoDelayAcceptor::new())
        .handle(handle.clone())
        .accept_error_handler(move |_, why| log_accept_error(&failures, why));
    server
        .http_builder()
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_read_timeout);
    let mut serving = std::pin::pin!(server.serve(router.into_make_service()));

    tokio::select! {
        result = &mut serving => return result,
        () = stop.cancelled() => handle.graceful_shutdown(Some(grace)),
    }
    serving.await?;
    match handle.connection_count() {
        0 => {}
        cut_off => tracing::warn!(cut_off, "connections were cut off"),
    }
    Ok(())
}

/// Such as "too many open files", which would repeat itself twenty times a second.
fn log_accept_error(failures: &Throttle, why: &io::Error) {
    if let Some(suppressed) = failures.admit(Instant::now()) {
        tracing::warn!(suppressed, "cannot accept a connection: {why}");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use std::sync::Arc;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        sync::Notify,
        task::JoinHandle,
        time::timeout,
    };

    use super::*;
    use crate::api::listen::bind;

    /// Far more than anything here takes.
    const LONG: Duration = Duration::from_secs(10);

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
        async fn start(grace: Duration, header_read_timeout: Duration) -> Self {
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
            let serving = tokio::spawn(serve_within(
                listener,
                router,
                stop.clone(),
                grace,
                header_read_timeout,
            ));
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

    /// What comes until the server closes the connection, and how long that takes.
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
        let server = TestServer::start(LONG, limit).await;
        for start in ["", "G", "GET / HTTP/1.1\r\nhost: x\r\nx-slow: "] {
            let (_, took) = read_to_end(server.send(start).await).await;
            assert!(took < LONG / 2, "{start:?} {took:?}");
            assert!(took > limit / 2, "{start:?} {took:?}");
        }
    }

    #[tokio::test]
    async fn a_trickle_of_headers_is_cut_off_too() {
        let server = TestServer::start(LONG, Duration::from_millis(300)).await;
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
        let server = TestServer::start(LONG, limit).await;
        let mut stream = server.send(GET_SLOW).await;
        server.reached.notified().await;
        tokio::time::sleep(limit * 3).await;
        server.finish.notify_one();
        assert!(read_some(&mut stream).await.ends_with("done"));
    }

    #[tokio::test]
    async fn a_panic_of_a_handler_ends_its_connection_only() {
        let server = TestServer::start(LONG, LONG).await;
        let panics = server.send("GET /panic HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert_eq!(read_to_end(panics).await.0, "");
        let mut stream = server.send(GET).await;
        assert!(read_some(&mut stream).await.ends_with("hello"));
    }

    #[tokio::test]
    async fn a_request_in_progress_is_answered_after_the_stop() {
        let server = TestServer::start(LONG, LONG).await;
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
        let server = TestServer::start(LONG, LONG).await;
        let mut used = server.send(GET).await;
        assert!(read_some(&mut used).await.ends_with("hello"));
        let _unused = server.send("").await;
        // Answered after the unused connection was accepted, as they queue in order.
        let mut later = server.send(GET).await;
        assert!(read_some(&mut later).await.ends_with("hello"));

        let started = Instant::now();
        server.stop.cancel();
        server.stopped().await;
        assert!(started.elapsed() < LONG / 2);
    }

    #[tokio::test]
    async fn a_request_that_outlasts_the_grace_is_cut_off() {
        let server = TestServer::start(Duration::from_millis(100), LONG).await;
        let in_progress = server.send(GET_SLOW).await;
        server.reached.notified().await;
        server.stop.cancel();
        assert_eq!(read_to_end(in_progress).await.0, "");
        server.stopped().await;
    }
}
