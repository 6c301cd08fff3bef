//! A TCP proxy that breaks the network at one exact command or reply, which a proxy
//! that counts bytes cannot do: it loses the reply to a command that contains a given
//! text, the reply that contains it, or the command itself, delays a reply, and makes connections half-open.

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

/// What is to be lost or late next. Once it is, the proxy is clean again.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Cut {
    Nothing,
    Command(Vec<u8>),
    ReplyTo(Vec<u8>),
    ReplyWith(Vec<u8>),
    /// Not lost, but this much later.
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

    /// What clients connect to.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Loses the next command that contains `text`, and closes the connection.
    pub(crate) fn lose_command(&self, text: &str) {
        *self.cut.lock().unwrap() = Cut::Command(text.into());
    }

    /// Carries the next command that contains `text` to Redis, loses what Redis answers,
    /// and closes the connection.
    pub(crate) fn lose_reply_to(&self, text: &str) {
        *self.cut.lock().unwrap() = Cut::ReplyTo(text.into());
    }

    /// Loses the next reply that contains `text`, and closes the connection.
    pub(crate) fn lose_reply_with(&self, text: &str) {
        *self.cut.lock().unwrap() = Cut::ReplyWith(text.into());
    }

    /// Delays the next reply that contains `text`, and what its connection carries after.
    pub(crate) fn delay_reply_with(&self, text: &str, delay: Duration) {
        *self.cut.lock().unwrap() = Cut::LateReplyWith(text.into(), delay);
    }

    /// Waits until what was to be lost is lost, or what was to be late has come to it.
    pub(crate) async fn lost(&self, deadline: Duration) {
        eventually("a reply is lost", deadline, async || {
            (*self.cut.lock().unwrap() == Cut::Nothing).then_some(())
        })
        .await;
    }

    /// Makes all connections of now half-open: each end still has its socket, and
    /// nothing that is sent arrives. New connections are as good as ever.
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
    /// Forwards until an end closes, or a reply is to be lost.
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
        // Closed with bytes unread it would be reset, and Redis might not have read all.
        let drained = async { while upstream.read(&mut replied).await.is_ok_and(|n| n > 0) {} };
        tokio::time::timeout(GRACE, drained).await.ok()
    }

    /// How late `bytes` are to be, when they are what the plan waits for.
    fn delays(&self, bytes: &[u8]) -> Option<Duration> {
        let Cut::LateReplyWith(_, delay) = *self.cut.lock().unwrap() else {
            return None;
        };
        self.loses(bytes, |text| Cut::LateReplyWith(text, delay))
            .then_some(delay)
    }

    /// Whether `bytes` are what the plan of this kind waits for, which is then done.
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

/// Swallows what both ends send, and never tells either that the other has gone.
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
