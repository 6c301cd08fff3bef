//! A TCP proxy that breaks the network at one exact command or reply. A proxy that counts bytes
//! cannot do that. It can lose a command with a given text, the reply to such a command, or a reply
//! with a given text. It can also delay a reply, and make connections half-open.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Redis, eventually};

/// How long Redis has to carry out a command whose reply is lost.
const GRACE: Duration = Duration::from_millis(300);

/// A proxy in front of one Redis.
pub(crate) struct Wire {
    addr: SocketAddr,
    cut: Arc<Mutex<Cut>>,
    /// Connections that were accepted before the latest count are half-open.
    vanished: watch::Sender<u64>,
    accepting: JoinHandle<()>,
}

/// The next loss or delay. When it has happened, the proxy carries everything again.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Cut {
    Nothing,
    Command(Vec<u8>),
    ReplyTo(Vec<u8>),
    ReplyWith(Vec<u8>),
    /// The reply is not lost, but delayed by this time.
    LateReplyWith(Vec<u8>, Duration),
}

impl Wire {
    pub(crate) async fn to(redis: &Redis) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let cut = Arc::new(Mutex::new(Cut::Nothing));
        let (vanished, _) = watch::channel(0);
        let accepting = tokio::spawn({
            let (cut, vanished, redis) = (Arc::clone(&cut), vanished.clone(), redis.addr());
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let connection = Connection {
                        cut: Arc::clone(&cut),
                        vanished: vanished.subscribe(),
                    };
                    if let Ok(upstream) = TcpStream::connect(&redis).await {
                        tokio::spawn(connection.carry(client, upstream));
                    }
                }
            }
        });
        Self {
            addr,
            cut,
            vanished,
            accepting,
        }
    }

    /// The address that clients connect to.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Loses the next command that contains `text`, and closes the connection.
    pub(crate) fn lose_command(&self, text: &str) {
        *self.cut.lock().unwrap() = Cut::Command(text.into());
    }

    /// Carries the next command that contains `text` to Redis, loses the reply, and closes the
    /// connection.
    pub(crate) fn lose_reply_to(&self, text: &str) {
        *self.cut.lock().unwrap() = Cut::ReplyTo(text.into());
    }

    /// Loses the next reply that contains `text`, and closes the connection.
    pub(crate) fn lose_reply_with(&self, text: &str) {
        *self.cut.lock().unwrap() = Cut::ReplyWith(text.into());
    }

    /// Delays the next reply that contains `text`, and everything after it on the same connection.
    pub(crate) fn delay_reply_with(&self, text: &str, delay: Duration) {
        *self.cut.lock().unwrap() = Cut::LateReplyWith(text.into(), delay);
    }

    /// Waits until the planned loss has happened or the planned delay has begun.
    pub(crate) async fn lost(&self, deadline: Duration) {
        eventually("a reply is lost", deadline, async || {
            (*self.cut.lock().unwrap() == Cut::Nothing).then_some(())
        })
        .await;
    }

    /// Makes all present connections half-open: each end still has its socket, but no bytes arrive.
    /// New connections work normally.
    pub(crate) fn vanish(&self) {
        self.vanished.send_modify(|count| *count += 1);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

struct Connection {
    cut: Arc<Mutex<Cut>>,
    vanished: watch::Receiver<u64>,
}

impl Connection {
    /// Forwards until an end closes, or until a loss closes the connection.
    async fn carry(mut self, mut client: TcpStream, mut upstream: TcpStream) -> Option<()> {
        self.vanished.mark_unchanged();
        let (mut sent, mut replied) = (vec![0; 65536], vec![0; 65536]);
        let mut doomed = false;
        loop {
            tokio::select! {
                count = client.read(&mut sent) => {
                    let bytes = &sent[..count.ok().filter(|count| *count > 0)?];
                    if self.loses(bytes, Cut::Command) {
                        return None;
                    }
                    doomed |= self.loses(bytes, Cut::ReplyTo);
                    upstream.write_all(bytes).await.ok()?;
                }
                count = upstream.read(&mut replied) => {
                    let bytes = &replied[..count.ok().filter(|count| *count > 0)?];
                    if doomed || self.loses(bytes, Cut::ReplyWith) {
                        break;
                    }
                    if let Some(delay) = self.delays(bytes) {
                        tokio::time::sleep(delay).await;
                    }
                    client.write_all(bytes).await.ok()?;
                }
                changed = self.vanished.changed() => {
                    changed.ok()?;
                    return half_open(client, upstream).await;
                }
            }
        }
        drop(client);
        // A socket that is closed with unread bytes is reset, and Redis might then not read all
        // commands. So everything is read first.
        let drained = async { while upstream.read(&mut replied).await.is_ok_and(|n| n > 0) {} };
        tokio::time::timeout(GRACE, drained).await.ok()
    }

    /// The delay of `bytes`, when they contain the text that the plan waits for.
    fn delays(&self, bytes: &[u8]) -> Option<Duration> {
        let Cut::LateReplyWith(_, delay) = *self.cut.lock().unwrap() else {
            return None;
        };
        self.loses(bytes, |text| Cut::LateReplyWith(text, delay))
            .then_some(delay)
    }

    /// Whether `bytes` contain the text that a plan of this kind waits for. Such a plan is then
    /// done.
    fn loses(&self, bytes: &[u8], kind: impl Fn(Vec<u8>) -> Cut) -> bool {
        let mut cut = self.cut.lock().unwrap();
        let (Cut::Command(text)
        | Cut::ReplyTo(text)
        | Cut::ReplyWith(text)
        | Cut::LateReplyWith(text, _)) = &*cut
        else {
            return false;
        };
        let found =
            *cut == kind(text.clone()) && bytes.windows(text.len()).any(|window| window == text);
        if found {
            *cut = Cut::Nothing;
        }
        found
    }
}

/// Swallows the bytes of both ends, and never tells one end that the other has closed.
async fn half_open(mut client: TcpStream, mut upstream: TcpStream) -> Option<()> {
    let (mut sent, mut replied) = ([0; 4096], [0; 4096]);
    let (mut client_open, mut upstream_open) = (true, true);
    while client_open || upstream_open {
        tokio::select! {
            count = client.read(&mut sent), if client_open => client_open = count.is_ok_and(|n| n > 0),
            count = upstream.read(&mut replied), if upstream_open => {
                upstream_open = count.is_ok_and(|n| n > 0);
            }
        }
    }
    Some(())
}
