//! A client's connection, which fails when the client does not read its answer.
//!
//! `request_timer` limits the time for the head of a request, and the handlers limit the time for
//! its body. This limits the time for the answer.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::{request_timer::RequestTimer, turn::Turn};

/// How long a client may take to read an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct AnswerTimeouts {
    /// Until it takes another byte.
    pub(super) stalled: Duration,
    /// Until it has taken the whole answer. This stops a client that takes a few bytes now and
    /// then.
    pub(super) whole: Duration,
}

/// The connection `S`, whose writes fail with `TimedOut` when the client takes too long.
#[derive(Debug)]
pub(super) struct ClientStream<S> {
    stream: S,
    timeouts: AnswerTimeouts,
    turn: Arc<Turn>,
    timer: Arc<RequestTimer>,
    blocked: Option<Blocked>,
}

/// A client that has not taken everything yet.
#[derive(Debug)]
struct Blocked {
    /// The end of [`AnswerTimeouts::whole`].
    deadline: Instant,
    /// The end of [`AnswerTimeouts::stalled`], or `deadline` if that is earlier.
    timer: Pin<Box<Sleep>>,
}

impl<S> ClientStream<S> {
    pub(super) fn new(
        stream: S,
        timeouts: AnswerTimeouts,
        turn: Arc<Turn>,
        timer: Arc<RequestTimer>,
    ) -> Self {
        Self {
            stream,
            timeouts,
            turn,
            timer,
            blocked: None,
        }
    }

    /// Turns the `result` of a write into an error when the client has taken too long.
    fn limited(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let stalled = self.timeouts.stalled;
        if result.is_ready() {
            if let Some(Blocked { deadline, timer }) = &mut self.blocked {
                timer
                    .as_mut()
                    .reset((Instant::now() + stalled).min(*deadline));
            }
            return result;
        }
        let blocked = self.blocked.get_or_insert_with(|| {
            let now = Instant::now();
            let deadline = now + self.timeouts.whole;
            let timer = Box::pin(sleep_until((now + stalled).min(deadline)));
            Blocked { deadline, timer }
        });
        ready!(blocked.timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.turn.note_read();
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.timer.bytes_received();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.limited(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.limited(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has nothing left to write: the whole answer is out.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.blocked = None;
        self.timer.flushed();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::{sleep, timeout},
    };

    use super::*;

    const TIMEOUTS: AnswerTimeouts = AnswerTimeouts {
        stalled: Duration::from_millis(200),
        whole: Duration::from_millis(600),
    };

    /// Far longer than anything here takes.
    const LONG: Duration = Duration::from_secs(10);

    fn pair() -> (ClientStream<DuplexStream>, DuplexStream) {
        let (server, client) = duplex(1024);
        let turn = Arc::new(Turn::new(std::time::Instant::now()));
        (
            ClientStream::new(server, TIMEOUTS, turn, Arc::new(RequestTimer::new())),
            client,
        )
    }

    async fn assert_gives_up(stream: &mut ClientStream<DuplexStream>, after: Duration) {
        let started = Instant::now();
        let written = timeout(LONG, stream.write_all(&[0; 1_000_000])).await;
        assert_eq!(
            written.unwrap().unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
        assert!(started.elapsed() >= after, "{:?}", started.elapsed());
        assert!(started.elapsed() < LONG / 2);
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_given_up() {
        let (mut stream, _client) = pair();
        assert_gives_up(&mut stream, TIMEOUTS.stalled).await;
    }

    #[tokio::test]
    async fn a_client_that_reads_a_few_bytes_now_and_then_is_given_up_later() {
        let (mut stream, mut client) = pair();
        let trickle = async {
            while client.read_u8().await.is_ok() {
                sleep(TIMEOUTS.stalled / 4).await;
            }
        };
        tokio::select! {
            () = trickle => panic!("it was closed"),
            () = assert_gives_up(&mut stream, TIMEOUTS.whole) => {}
        }
    }

    #[tokio::test]
    async fn a_client_that_reads_each_answer_in_time_is_kept() {
        let (mut stream, mut client) = pair();
        let started = Instant::now();
        while started.elapsed() < TIMEOUTS.whole * 2 {
            let mut answer = [0; 2048];
            let reading = async {
                sleep(TIMEOUTS.stalled / 2).await;
                client.read_exact(&mut answer).await.unwrap();
            };
            let writing = async {
                stream.write_all(&[0; 2048]).await.unwrap();
                stream.flush().await.unwrap();
            };
            tokio::join!(reading, writing);
        }
    }
}
