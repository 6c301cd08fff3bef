//! Serves one connection: hyper reads its requests, the router answers them, and `turn` and
//! `request_timer` are informed of each step.

use std::{
    convert::Infallible,
    future::{Future, pending},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
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
use tokio::{net::TcpStream, task::yield_now};
use tokio_util::sync::CancellationToken;

use super::{
    client_stream::{AnswerTimeouts, ClientStream},
    host,
    request_timer::RequestTimer,
    turn::Turn,
};
use crate::config::HttpConfig;

/// How long a client may take no byte of its answer.
const STALLED: Duration = Duration::from_secs(5);

/// What every connection of a port needs. Each connection has a clone.
#[derive(Debug, Clone)]
pub(super) struct ConnectionServer {
    http: http1::Builder,
    router: TowerToHyperService<Router>,
    timeouts: HttpConfig,
    /// Cancelled when the process was asked to stop: answers close their connection.
    stop: CancellationToken,
    /// Cancelled when the drain delay is over: no further request is begun.
    closing: CancellationToken,
}

impl ConnectionServer {
    pub(super) fn new(
        router: Router,
        timeouts: HttpConfig,
        stop: CancellationToken,
        closing: CancellationToken,
    ) -> Self {
        let mut http = http1::Builder::new();
        // `RequestTimer` has this limit.
        http.header_read_timeout(None);
        Self {
            http,
            router: TowerToHyperService::new(router),
            timeouts,
            stop,
            closing,
        }
    }

    /// Serves one connection to its end.
    pub(super) async fn serve(self, stream: TcpStream, turn: Arc<Turn>) {
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let timer = Arc::new(RequestTimer::new());
        let io = TokioIo::new(ClientStream::new(
            stream,
            AnswerTimeouts {
                stalled: STALLED.min(self.timeouts.write_timeout),
                whole: self.timeouts.write_timeout,
            },
            Arc::clone(&turn),
            Arc::clone(&timer),
        ));
        let service = service_fn(|request| self.answer(request, &turn, &timer));
        let mut connection = pin!(self.http.serve_connection(io, service));
        // A connection that fails is the client's business: no result is looked at.
        tokio::select! {
            biased;
            ended = connection.as_mut() => return drop(ended),
            () = self.closing.cancelled() => connection.as_mut().graceful_shutdown(),
            // After the connection, so that a request that has arrived in time is read first.
            () = timer.overdue(&self.timeouts) => return,
        }
        drop(connection.await);
    }

    /// Answers one request.
    ///
    /// The returned future says whose turn it is, and not this function: hyper calls for the next
    /// answer while the client has yet to read the last one, but polls the future only later.
    fn answer(
        &self,
        request: Request<Incoming>,
        turn: &Arc<Turn>,
        timer: &Arc<RequestTimer>,
    ) -> impl Future<Output = Result<Response, Infallible>> + use<> {
        let (router, stop) = (self.router.clone(), self.stop.clone());
        let (turn, timer) = (Arc::clone(turn), Arc::clone(timer));
        async move {
            timer.head_received();
            if turn.is_pipelined() {
                // hyper would answer sixteen of these in a row before another client has a turn.
                yield_now().await;
            }
            if !turn.give_to_server() {
                return pending().await;
            }
            let mut answer = match host::check(&request) {
                Err(problem) => problem.into_response(),
                Ok(()) => {
                    let turn = Arc::clone(&turn);
                    let Ok(answer) = router
                        .call(request.map(|body| RequestBody { body, turn }))
                        .await;
                    answer
                }
            };
            if stop.is_cancelled() {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(header::CONNECTION, close);
            }
            turn.give_to_client();
            timer.answer_ready();
            Ok(answer)
        }
    }
}

/// A request's body. While a handler waits for the next part of it, it is the client's turn.
#[derive(Debug)]
struct RequestBody {
    body: Incoming,
    turn: Arc<Turn>,
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
            self.turn.give_to_client();
        }
        let frame = ready!(frame);
        if self.turn.give_to_server() {
            Poll::Ready(frame)
        } else {
            // The connection is about to be closed, and this task with it.
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
