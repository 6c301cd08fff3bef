//! A raw connection to Redis. It writes commands as bytes, and does not decode the replies that
//! nobody needs. The limits are measured with it, so that they are those of Redis and not those of
//! a client library.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The longest time for a reply. FLUSHALL SYNC of a large backlog ends within it too.
const REPLY_LIMIT: Duration = Duration::from_secs(30);
const BUFFER: usize = 64 * 1024;

/// A connection to Redis. It panics on errors of the network and of Redis.
pub(crate) struct Conn {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    out: Vec<u8>,
    line: Vec<u8>,
}

/// A decoded reply.
#[derive(Debug)]
pub(crate) enum Reply {
    Nil,
    Int(i64),
    Text(String),
    Array(Vec<Reply>),
}

impl Reply {
    /// The texts of a list.
    pub(crate) fn texts(self) -> Vec<String> {
        let Reply::Array(items) = self else {
            panic!("expected a list, found {self:?}");
        };
        let text = |item| match item {
            Reply::Text(text) => text,
            other => panic!("expected a text, found {other:?}"),
        };
        items.into_iter().map(text).collect()
    }

    /// The ids and jobs in the reply of an XREADGROUP on one stream.
    pub(crate) fn entries(self) -> Vec<(String, String)> {
        if matches!(self, Reply::Nil) {
            return Vec::new();
        }
        let [stream] = self.array();
        let [_name, Reply::Array(entries)] = stream.array() else {
            panic!("expected a stream's name and its entries");
        };
        let entry = |entry: Reply| {
            let [Reply::Text(id), fields] = entry.array() else {
                panic!("expected an id and fields");
            };
            (id, fields.texts().swap_remove(1))
        };
        entries.into_iter().map(entry).collect()
    }

    fn array<const N: usize>(self) -> [Self; N] {
        match self {
            Reply::Array(items) => items.try_into().expect("a list of another length"),
            other => panic!("expected a list, found {other:?}"),
        }
    }
}

impl Conn {
    pub(crate) fn open(addr: &str) -> Self {
        Self::try_open(addr).unwrap_or_else(|error| panic!("cannot connect to {addr}: {error}"))
    }

    pub(crate) fn try_open(addr: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_LIMIT))?;
        stream.set_write_timeout(Some(REPLY_LIMIT))?;
        Ok(Self {
            reader: BufReader::with_capacity(BUFFER, stream.try_clone()?),
            stream,
            out: Vec::with_capacity(BUFFER),
            line: Vec::new(),
        })
    }

    /// Adds a command to what [`Self::flush`] sends.
    pub(crate) fn push(&mut self, args: &[&[u8]]) {
        self.head(args.len(), args);
    }

    /// Adds a command of texts.
    pub(crate) fn push_texts<'a>(&mut self, args: impl IntoIterator<Item = &'a str>) {
        let args: Vec<&[u8]> = args.into_iter().map(str::as_bytes).collect();
        self.push(&args);
    }

    /// Adds a command whose last `count` arguments are encoded already.
    pub(crate) fn push_encoded(&mut self, args: &[&[u8]], encoded: &[u8], count: usize) {
        self.head(args.len() + count, args);
        self.out.extend_from_slice(encoded);
    }

    fn head(&mut self, count: usize, args: &[&[u8]]) {
        write!(self.out, "*{count}\r\n").unwrap();
        for arg in args {
            encode(arg, &mut self.out);
        }
    }

    /// Sends the added commands in one write.
    pub(crate) fn flush(&mut self) {
        self.stream.write_all(&self.out).unwrap();
        self.out.clear();
    }

    /// Reads a reply without decoding it.
    pub(crate) fn skip(&mut self) {
        let mut replies = 1;
        while replies > 0 {
            replies -= 1;
            match self.header() {
                (b'$', Some(length)) => self.consume(length + 2),
                (b'*', Some(count)) => replies += count,
                _ => {}
            }
        }
    }

    /// Reads the reply of an XREADGROUP on one stream. Returns how many entries it brought. Puts
    /// their ids into `ids`, encoded as arguments of the next command.
    pub(crate) fn entry_ids(&mut self, ids: &mut Vec<u8>) -> usize {
        ids.clear();
        let (b'*', Some(_)) = self.header() else {
            return 0;
        };
        self.header();
        self.skip(); // the stream's name
        let count = self.header().1.unwrap();
        for _ in 0..count {
            self.header();
            let length = self.header().1.unwrap();
            self.line.resize(length + 2, 0);
            self.reader.read_exact(&mut self.line).unwrap();
            encode(&self.line[..length], ids);
            self.skip(); // its fields
        }
        count
    }

    /// Sends a command and reads its reply.
    pub(crate) fn ask(&mut self, args: &[&str]) -> Reply {
        self.push_texts(args.iter().copied());
        self.flush();
        self.reply()
    }

    pub(crate) fn ask_int(&mut self, args: &[&str]) -> i64 {
        match self.ask(args) {
            Reply::Int(n) => n,
            reply => panic!("{args:?}: expected a number, found {reply:?}"),
        }
    }

    pub(crate) fn ask_text(&mut self, args: &[&str]) -> String {
        match self.ask(args) {
            Reply::Text(text) => text,
            reply => panic!("{args:?}: expected text, found {reply:?}"),
        }
    }

    pub(crate) fn reply(&mut self) -> Reply {
        match self.header() {
            (b'$', Some(length)) => {
                self.line.resize(length + 2, 0);
                self.reader.read_exact(&mut self.line).unwrap();
                Reply::Text(String::from_utf8_lossy(&self.line[..length]).into_owned())
            }
            (b'*', Some(count)) => Reply::Array((0..count).map(|_| self.reply()).collect()),
            (b'$' | b'*', None) => Reply::Nil,
            (b':', _) => Reply::Int(self.text().parse().unwrap()),
            _ => Reply::Text(self.text().to_owned()),
        }
    }

    /// Waits for a line that is no reply to a command, such as MONITOR sends. `None` when no line
    /// comes within `limit`.
    pub(crate) fn wait_for_line(&mut self, limit: Duration) -> Option<String> {
        let limit = limit.max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(limit)).unwrap();
        self.line.clear();
        self.reader.read_until(b'\n', &mut self.line).ok()?;
        Some(String::from_utf8_lossy(&self.line).into_owned())
    }

    /// Reads the first line of a reply. Returns its type and the length or count in it.
    fn header(&mut self) -> (u8, Option<usize>) {
        self.line.clear();
        self.reader.read_until(b'\n', &mut self.line).unwrap();
        let kind = *self.line.first().expect("redis closed the connection");
        assert!(kind != b'-', "redis refused a command: {}", self.text());
        (kind, self.text().parse().ok())
    }

    /// The text of the line after its first byte.
    fn text(&self) -> &str {
        std::str::from_utf8(&self.line[1..]).unwrap().trim_end()
    }

    fn consume(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let ready = self.reader.fill_buf().unwrap().len().min(bytes);
            assert!(ready > 0, "redis closed the connection");
            self.reader.consume(ready);
            bytes -= ready;
        }
    }
}

fn encode(arg: &[u8], out: &mut Vec<u8>) {
    write!(out, "${}\r\n", arg.len()).unwrap();
    out.extend_from_slice(arg);
    out.extend_from_slice(b"\r\n");
}
