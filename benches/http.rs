//! Measures registrations over HTTP on connections that stay open. The limit is the bare server of
//! `program.rs`. It uses the same HTTP code, reads the same body and sends the same answer. But it
//! does not parse the body, and it does not use Redis.
//!
//! Two threads of this process make the load. Each writes one request on each of its connections,
//! and then reads all the answers. The threads share the cores with the server, so they do as
//! little work as they can. The load begins a tenth of the time earlier, to warm up.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::backlog::Queue;
use super::bench::{Bench, Subject};
use super::limit::{JOBS_PER_S, rate};
use super::process::{Process, Program};
use super::program::REGISTER;
use super::redis::{Redis, free_port};

const THREADS: usize = 2;
const CONNECTIONS_PER_THREAD: usize = 16;
pub(crate) const CONNECTIONS: usize = THREADS * CONNECTIONS_PER_THREAD;
const TIME_MS: usize = 2000;
const READ_LIMIT: Duration = Duration::from_secs(10);

/// Measures the figures that the command line asks for.
pub(crate) fn run(bench: &mut Bench) {
    let redis = Redis::start();
    let time = Duration::from_millis(u64::try_from(bench.size(TIME_MS)).unwrap());
    let limit = Subject::new("limit.http", JOBS_PER_S, || {
        let port = free_port();
        let _server: Process = Program::bare_server(port).start_serving(port);
        load(port, time).rate
    });
    let subject = Subject::new("enqueue.http", JOBS_PER_S, || {
        let port = free_port();
        register(&redis, Program::server(&redis, port), port, time)
    });
    bench.compare(limit, vec![subject]);
}

/// Registers jobs at a server with this port, which puts them into `redis`. Returns the jobs a
/// second.
pub(crate) fn register(redis: &Redis, server: Program, port: u16, time: Duration) -> f64 {
    redis.empty();
    let _server = server.start_serving(port);
    wait_until_ready(port);
    let load = load(port, time);
    assert_eq!(Queue::default(redis).len(), load.requests);
    load.rate
}

pub(crate) struct Load {
    /// How many requests were made, with those of the warm-up.
    pub(crate) requests: usize,
    rate: f64,
}

/// Registers jobs on all connections for `time`, after a warm-up.
pub(crate) fn load(port: u16, time: Duration) -> Load {
    let request = request();
    let mut threads: Vec<_> = (0..THREADS).map(|_| Thread::new(port)).collect();
    let mut run_all = |time: Duration| -> usize {
        thread::scope(|scope| {
            let run = |thread| scope.spawn(|| Thread::run(thread, &request, time));
            let all: Vec<_> = threads.iter_mut().map(run).collect();
            all.into_iter().map(|one| one.join().unwrap()).sum()
        })
    };
    let warm_up = run_all(time / 10);
    let start = Instant::now();
    let requests = run_all(time);
    Load {
        rate: rate(requests, start),
        requests: warm_up + requests,
    }
}

fn request() -> Vec<u8> {
    let body = r#"{"message":"a message of forty bytes, to be printed.","delay":"0s"}"#;
    let length = body.len();
    format!(
        "POST {REGISTER} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

pub(crate) fn wait_until_ready(port: u16) {
    super::wait_for("the server's Redis", READ_LIMIT, || {
        let mut stream = connect(port);
        stream
            .write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).unwrap();
        (&start == b"HTTP/1.1 200").then_some(())
    });
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(READ_LIMIT)).unwrap();
    stream
}

/// The connections of one thread.
struct Thread {
    streams: Vec<TcpStream>,
    buffer: Vec<u8>,
}

impl Thread {
    fn new(port: u16) -> Self {
        Self {
            streams: (0..CONNECTIONS_PER_THREAD).map(|_| connect(port)).collect(),
            buffer: vec![0; 4096],
        }
    }

    /// Makes requests for `time`. Returns how many.
    fn run(&mut self, request: &[u8], time: Duration) -> usize {
        let start = Instant::now();
        let mut requests = 0;
        while start.elapsed() < time {
            for stream in &mut self.streams {
                stream.write_all(request).unwrap();
            }
            for stream in &mut self.streams {
                read_answer(stream, &mut self.buffer);
            }
            requests += self.streams.len();
        }
        requests
    }
}

/// Reads one answer to its end.
fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) {
    let mut length = 0;
    loop {
        let read = stream.read(&mut buffer[length..]).unwrap();
        assert!(read > 0, "the server closed a connection");
        length += read;
        if is_whole(&buffer[..length]) {
            return;
        }
    }
}

fn is_whole(answer: &[u8]) -> bool {
    let text = std::str::from_utf8(answer).unwrap();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    assert!(head.starts_with("HTTP/1.1 201"), "{text}");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    length.unwrap().parse() == Ok(body.len())
}
