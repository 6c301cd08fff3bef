//! Serves a router on a listener until told to stop.
//!
//! The accept loop is hyper's usual one, and not `axum::serve` or axum-server: those do not
//! know which connection waits for its client. Here that decides which of them is closed
//! when there are too many, and which of them a stop waits for.

use std::{
    convert::Infallible,
    future::{Future, pending, poll_fn},
    io::{self, ErrorKind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use hyper::{
    Request,
    body::{Body, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    net::{TcpListener, TcpStream},
    task::yield_now,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    connections::{Connections, Progress},
    host,
    listen::Listeners,
    pace::Pace,
    stream::{ClientStream, ReadingTime},
};
use crate::config::{HttpConfig, JobqueueConfig, ServerConfig};
use crate::throttle::Throttle;

/// How many clients the API serves at once, where files do not run short before.
const MAX_CLIENTS: usize = 4096;

/// How many clients may ask for a worker's health at once.
const MAX_PROBES: usize = 64;

/// Files that connections leave to everything else: to Redis above all, whose connections
/// must be opened anew in the middle of an attack. An idle worker has 23 files open.
const RESERVED_FILES: usize = 64;

/// How long to wait for a file when there is none.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a client may go without taking a single byte of its answer.
const STALLED: Duration = Duration::from_secs(5);

/// How a port is served.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many connections there are at once, or fewer when the limit on open files is too low
    /// for that. A further one takes the place of the one that has waited longest for its client.
    pub connections: usize,
    /// How long a client may take.
    pub http: HttpConfig,
    /// How long connections are still accepted after the stop.
    pub drain_delay: Duration,
    /// How long the requests in progress may take after that.
    pub grace: Duration,
}

impl Limits {
    /// Those of the API server's port.
    pub fn of_server(settings: &ServerConfig) -> Self {
        Self {
            connections: MAX_CLIENTS,
            http: settings.http,
            drain_delay: settings.drain_delay,
            grace: settings.shutdown_timeout,
        }
    }

    /// Those of a worker's port, which is open for as long as the worker lives.
    pub fn of_worker(settings: &JobqueueConfig) -> Self {
        Self {
            connections: MAX_PROBES,
            http: settings.http,
            drain_delay: Duration::ZERO,
            grace: settings.shutdown_timeout,
        }
    }
}

/// Serves `router` on `listeners` until `stop` is cancelled and the requests in progress are
/// answered, within `limits`.
///
/// From `stop` on each answer says that its connection is closed. When the drain delay is
/// over no connection is accepted, and those without a request in progress are closed; one that
/// still waits for its client half a second later is closed too. What is not answered within the
/// grace is cut off. Raises the process' limit on open files as far as it may.
///
/// # Errors
///
/// When a listener cannot be used. Failures of single connections are no errors.
///
/// # Cancel safety
///
/// Dropping the future closes all connections.
pub async fn serve(
    listeners: Listeners,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) -> io::Result<()> {
    let mut doors = Doors::open(listeners)?;
    let mut connections = Connections::new(connection_limit(limits.connections));
    let mut http = http1::Builder::new();
    // `Pace` sees to that.
    http.header_read_timeout(None);
    let closing = CancellationToken::new();
    let server = Server {
        http,
        router: TowerToHyperService::new(router),
        time: limits.http,
        stop: stop.clone(),
        closing: closing.clone(),
    };

    tokio::select! {
        () = server.accept_all(&mut doors, &mut connections) => {}
        () = drained(&stop, limits.drain_delay) => {}
    }
    drop(doors);
    closing.cancel();
    match connections.end_within(limits.grace).await {
        0 => {}
        cut_off => tracing::warn!(cut_off, "connections were cut off"),
    }
    Ok(())
}

/// A load balancer sends connections until it has noticed that this server is not ready.
async fn drained(stop: &CancellationToken, delay: Duration) {
    stop.cancelled().await;
    if !delay.is_zero() {
        tracing::info!(?delay, "still accepting connections");
        sleep(delay).await;
    }
}

/// At least 1.
fn connection_limit(max_connections: usize) -> usize {
    // Often 1,024 by default, which slow clients alone could use up.
    let files = rlimit::increase_nofile_limit(u64::MAX).or_else(|why| {
        tracing::warn!("cannot raise the limit on open files: {why}");
        rlimit::Resource::NOFILE.get_soft()
    });
    let files = files.map_or(usize::MAX, |files| {
        usize::try_from(files).unwrap_or(usize::MAX)
    });
    let reserved = RESERVED_FILES.min(files / 2);
    max_connections.min(files - reserved).max(1)
}

/// The sockets on which clients come in.
#[derive(Debug)]
struct Doors {
    listeners: Vec<TcpListener>,
    /// The one that is asked first, so that a crowd at one does not keep the other shut.
    next: usize,
}

impl Doors {
    fn open(listeners: Listeners) -> io::Result<Self> {
        let listeners = listeners.into_sockets().into_iter().map(|listener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        });
        Ok(Self {
            listeners: listeners.collect::<io::Result<_>>()?,
            next: 0,
        })
    }

    /// Cancel safe.
    async fn accept(&mut self) -> io::Result<TcpStream> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        let count = self.listeners.len();
        for n in 0..count {
            let door = (self.next + n) % count;
            if let Poll::Ready(accepted) = self.listeners[door].poll_accept(cx) {
                self.next = (door + 1) % count;
                return Poll::Ready(accepted.map(|(stream, _)| stream));
            }
        }
        Poll::Pending
    }
}

/// What each connection needs.
#[derive(Debug, Clone)]
struct Server {
    http: http1::Builder,
    router: TowerToHyperService<Router>,
    time: HttpConfig,
    /// The server was asked to stop.
    stop: CancellationToken,
    /// Nothing more is to begin.
    closing: CancellationToken,
}

impl Server {
    /// Never returns.
    async fn accept_all(&self, doors: &mut Doors, connections: &mut Connections) {
        let failures = Throttle::new(1, |kind: Option<&ErrorKind>, suppressed| {
            let kind = kind.copied().unwrap_or(ErrorKind::Other);
            tracing::warn!(suppressed, "cannot accept connections, as before: {kind}");
        });
        loop {
            let accepted = tokio::select! {
                accepted = doors.accept() => accepted,
                () = connections.one_ended() => continue,
            };
            match accepted {
                Ok(stream) => {
                    connections.make_room().await;
                    connections.open(|progress| self.clone().serve(stream, progress));
                }
                Err(why) if is_of_the_client(&why) => {}
                Err(why) => {
                    log_accept_error(&failures, &why);
                    // The limit on files may be lower than it was at the start, or that of
                    // the whole system is reached.
                    connections.evict_stalest();
                    drop(timeout(ACCEPT_PAUSE, connections.one_ended()).await);
                }
            }
        }
    }

    /// Serves one connection to its end.
    async fn serve(self, stream: TcpStream, progress: Arc<Progress>) {
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let pace = Arc::new(Pace::new());
        let io = TokioIo::new(ClientStream::new(
            stream,
            ReadingTime {
                stalled: STALLED.min(self.time.write_timeout),
                whole: self.time.write_timeout,
            },
            Arc::clone(&progress),
            Arc::clone(&pace),
        ));
        let service = service_fn(|request| self.answer(request, &progress, &pace));
        let mut connection = pin!(self.http.serve_connection(io, service));
        // How it ends is the client's business.
        tokio::select! {
            biased;
            ended = connection.as_mut() => return drop(ended),
            () = self.closing.cancelled() => connection.as_mut().graceful_shutdown(),
            // After the connection, so that what has come in time is read before.
            () = pace.overdue(&self.time) => return,
        }
        drop(connection.await);
    }

    /// Answers one request. The progress is told from within: hyper calls for the next answer
    /// while the client has yet to read the last one, but does not begin with it.
    fn answer(
        &self,
        request: Request<Incoming>,
        progress: &Arc<Progress>,
        pace: &Arc<Pace>,
    ) -> impl Future<Output = Result<Response, Infallible>> + use<> {
        let (router, stop) = (self.router.clone(), self.stop.clone());
        let (progress, pace) = (Arc::clone(progress), Arc::clone(pace));
        async move {
            pace.asked();
            if progress.is_pipelined() {
                yield_now().await;
            }
            if !progress.works() {
                return pending().await;
            }
            let mut answer = match host::check(&request) {
                Err(problem) => problem.into_response(),
                Ok(()) => {
                    let body_of = |body| RequestBody {
                        body,
                        progress: Arc::clone(&progress),
                    };
                    let Ok(answer) = router.call(request.map(body_of)).await;
                    answer
                }
            };
            if stop.is_cancelled() {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(header::CONNECTION, close);
            }
            progress.waits();
            pace.answers();
            Ok(answer)
        }
    }
}

/// A request's body. While a handler waits for it, the connection waits for its client.
#[derive(Debug)]
struct RequestBody {
    body: Incoming,
    progress: Arc<Progress>,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_pending() {
            self.progress.waits();
        }
        let frame = ready!(frame);
        if self.progress.works() {
            Poll::Ready(frame)
        } else {
            Poll::Pending
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that ended before it was accepted.
fn is_of_the_client(why: &io::Error) -> bool {
    matches!(
        why.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    )
}

/// Such as "too many open files", which would repeat itself twenty times a second.
fn log_accept_error(failures: &Throttle<ErrorKind>, why: &io::Error) {
    if let Some(suppressed) = failures.admit(why.kind(), Instant::now()) {
        tracing::warn!(suppressed, "cannot accept a connection: {why}");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use std::net::SocketAddr;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        sync::Notify,
        task::JoinHandle,
        time::timeout,
    };

    use super::*;
    use crate::api::http::listen::bind;

    /// Far more than anything here takes.
    const LONG: Duration = Duration::from_secs(10);

    const LIMIT: usize = 8;

    /// How long a client may take over its headers, and as long over anything else.
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
        let server = TestServer::start(Duration::from_millis(100), patience(LONG)).await;
        let in_progress = server.send(GET_SLOW).await;
        server.reached.notified().await;
        server.stop.cancel();
        assert_eq!(read_to_end(in_progress).await.0, "");
        server.stopped().await;
    }
}
