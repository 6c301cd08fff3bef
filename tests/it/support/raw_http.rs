//! HTTP as bytes on a socket: for requests that no client library sends (without a host, half of
//! one, several at once) and for looking at the connection itself (is it kept, when is it closed).
//! Requests in good order are for `TestApp` and `Process::get`.

use std::fmt;
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::{PATIENCE, eventually};

/// The path that jobs are registered at.
pub(crate) const REGISTER: &str = "/api/dm-jobqueue/register";

/// One connection. It keeps the bytes that came behind the answer that was read last.
pub(crate) struct RawClient {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// One answer, its head in lower case.
pub(crate) struct RawAnswer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl RawClient {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self::around(TcpStream::connect(addr).await.unwrap())
    }

    /// A connection with little room for bytes that nobody reads: the server cannot write any
    /// more soon after the client has stopped reading.
    ///
    /// # Errors
    ///
    /// When the server takes no connection.
    pub(crate) async fn with_small_buffers(addr: SocketAddr) -> Result<Self, Error> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4 << 10)?;
        socket.set_send_buffer_size(16 << 10)?;
        Ok(Self::around(socket.connect(addr).await?))
    }

    fn around(stream: TcpStream) -> Self {
        let unread = Vec::new();
        Self { stream, unread }
    }

    /// Sends bytes: a request, a part of one, or several.
    ///
    /// # Errors
    ///
    /// When the server has closed the connection.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), Error> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// The same on a connection that must be open.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    /// Reads one answer, as long as its head says. `100 Continue` is an answer too.
    ///
    /// # Panics
    ///
    /// When the connection ends before, or nothing comes for long.
    pub(crate) async fn answer(&mut self) -> RawAnswer {
        let reading = async {
            loop {
                if let Some((answer, length)) = RawAnswer::first(&self.unread) {
                    self.unread.drain(..length);
                    return answer;
                }
                let count = self.stream.read_buf(&mut self.unread).await.unwrap();
                let came = String::from_utf8_lossy(&self.unread);
                assert!(count > 0, "closed before the end of an answer: {came:?}");
            }
        };
        timeout(PATIENCE, reading).await.expect("no answer")
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn ask(&mut self, request: impl AsRef<[u8]>) -> RawAnswer {
        self.send(request).await;
        self.answer().await
    }

    /// Reads until the server closes the connection, and returns what came. A reset is an end
    /// as well.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.unread);
        let reading = self.stream.read_to_end(&mut rest);
        timeout(PATIENCE, reading)
            .await
            .expect("it is not closed")
            .ok();
        rest
    }

    /// Waits until something comes or the connection is closed.
    pub(crate) async fn changed(&self) {
        self.stream.readable().await.unwrap();
    }

    /// Sends requests again and again, reading nothing, until the server has closed the
    /// connection. This side may take a lot before it is full.
    pub(crate) async fn closed_while_sending(&self) {
        let requests = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n".repeat(500);
        eventually("it is closed", PATIENCE, async || {
            let refused = self.stream.try_write(requests.as_bytes()).err()?;
            (refused.kind() != ErrorKind::WouldBlock).then_some(())
        })
        .await;
    }
}

/// Sends one request on a connection of its own and reads to the end of the connection.
///
/// # Errors
///
/// When there is no answer, with what came instead.
pub(crate) async fn exchange(
    addr: SocketAddr,
    request: impl AsRef<[u8]>,
) -> Result<RawAnswer, String> {
    let mut client = RawClient::connect(addr).await;
    // A server that refuses early does not read the request to its end, and answers.
    client.try_send(request).await.ok();
    let rest = client.rest().await;
    RawAnswer::last(&rest).ok_or_else(|| format!("no answer: {:?}", String::from_utf8_lossy(&rest)))
}

impl RawAnswer {
    /// The only answer in all that came on a connection, behind `100 Continue`.
    pub(crate) fn last(bytes: &[u8]) -> Option<Self> {
        let (head_len, mut answer) = Self::head_of(bytes)?;
        let body = &bytes[head_len..];
        if answer.status == 100 {
            return Self::last(body);
        }
        answer.body = body.to_vec();
        Some(answer)
    }

    /// The first answer in `bytes`, when all of it has come, and its length.
    fn first(bytes: &[u8]) -> Option<(Self, usize)> {
        let (head_len, mut answer) = Self::head_of(bytes)?;
        let body_len = answer.header("content-length");
        let body_len: usize = body_len.map_or(0, |len| len.parse().unwrap());
        let end = head_len + body_len;
        answer.body = bytes.get(head_len..end)?.to_vec();
        Some((answer, end))
    }

    fn head_of(bytes: &[u8]) -> Option<(usize, Self)> {
        let end = bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?.to_lowercase();
        let status = head.strip_prefix("http/1.")?.get(2..5)?.parse().ok()?;
        let body = Vec::new();
        Some((end + 4, Self { status, head, body }))
    }

    /// Its lines up to the body, in lower case.
    pub(crate) fn head(&self) -> &str {
        &self.head
    }

    /// Its first header of that name, in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1);
        let mut headers = lines.filter_map(|line| line.split_once(':'));
        headers
            .find(|(header, _)| header.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl fmt::Debug for RawAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        write!(f, "{:?} {body:.500}", self.head)
    }
}
