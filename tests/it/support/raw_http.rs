//! HTTP as bytes on a socket. Tests use it for requests that no client library sends (without a
//! host, half a request, several at once) and to see the connection itself (whether it is kept,
//! when it is closed). Ordinary requests use `TestApp` and `Process::get`.

use std::fmt;
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::{PATIENCE, eventually};

/// The path of the register endpoint.
pub(crate) const REGISTER: &str = "/api/dm-jobqueue/register";

/// One connection. It keeps the bytes that came after the last answer that was read.
pub(crate) struct RawClient {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// One answer. Its head is in lower case.
pub(crate) struct RawAnswer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl RawClient {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self::around(TcpStream::connect(addr).await.unwrap())
    }

    /// Opens a connection with small buffers. When the client stops reading, the server soon cannot
    /// write any more.
    ///
    /// # Errors
    ///
    /// When the server does not accept the connection.
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

    /// Sends bytes on a connection that must be open.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    /// Reads one answer, to the length that its head says. `100 Continue` is an answer too.
    ///
    /// # Panics
    ///
    /// When the connection ends before the answer does, or when nothing comes for a long time.
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

    /// Reads until the server closes the connection, and returns the bytes. A reset is an end too.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.unread);
        let reading = self.stream.read_to_end(&mut rest);
        timeout(PATIENCE, reading)
            .await
            .expect("it is not closed")
            .ok();
        rest
    }

    /// Waits until bytes come or the connection is closed.
    pub(crate) async fn changed(&self) {
        self.stream.readable().await.unwrap();
    }

    /// Sends requests again and again without reading, until the server has closed the connection.
    /// The buffers of this side may hold many requests before they are full.
    pub(crate) async fn closed_while_sending(&self) {
        let requests = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n".repeat(500);
        eventually("it is closed", PATIENCE, async || {
            let refused = self.stream.try_write(requests.as_bytes()).err()?;
            (refused.kind() != ErrorKind::WouldBlock).then_some(())
        })
        .await;
    }
}

/// Sends one request on a new connection, and reads to the end of the connection.
///
/// # Errors
///
/// When there is no answer. The error has the bytes that came instead.
pub(crate) async fn exchange(
    addr: SocketAddr,
    request: impl AsRef<[u8]>,
) -> Result<RawAnswer, String> {
    let mut client = RawClient::connect(addr).await;
    // A server that refuses a request early does not read it to its end. It still answers.
    client.try_send(request).await.ok();
    let rest = client.rest().await;
    RawAnswer::last(&rest).ok_or_else(|| format!("no answer: {:?}", String::from_utf8_lossy(&rest)))
}

impl RawAnswer {
    /// The only answer in all bytes of a connection, not counting `100 Continue`.
    pub(crate) fn last(bytes: &[u8]) -> Option<Self> {
        let (head_len, mut answer) = Self::head_of(bytes)?;
        let body = &bytes[head_len..];
        if answer.status == 100 {
            return Self::last(body);
        }
        answer.body = body.to_vec();
        Some(answer)
    }

    /// The first answer in `bytes` and its length, when all of it has come.
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
