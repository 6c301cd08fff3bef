//! A request as bytes. It can be wrong in ways that no HTTP client allows.

use std::fmt;
use std::net::SocketAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Union;
use tokio::runtime::Handle;

use super::MAX_BODY_LEN;
use super::bodies::{bodies, one_of};
use super::description::Description;
use crate::support::{RawAnswer, exchange};

/// A request as it is sent.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    /// The content type, and whether it is JSON.
    pub(super) content_type: Option<(&'static str, bool)>,
    pub(super) twist: Twist,
    /// The length of each chunk of the body. It is 0 when the body has a `content-length`, and `None`
    /// when the twist states the length.
    pub(super) framing: Option<usize>,
    pub(super) body: Vec<u8>,
}

/// An odd part of a request, besides its method and its body.
#[derive(Debug, Clone)]
pub(super) enum Twist {
    None,
    Header(String, Vec<u8>),
    Coding(&'static str),
    BigHeader(usize),
    ManyHeaders(usize),
    LongQuery(usize),
    /// These lines replace the one good `Host` line.
    Hosts(&'static str),
    /// These lines come from a browser. The flag says whether its page is of another site.
    Site(&'static str, bool),
    BadHttp(&'static str),
}

impl Twist {
    /// Whether the request is refused before any handler gets it.
    pub(super) fn is_refused(&self) -> bool {
        match self {
            Self::None | Self::Header(..) | Self::Coding(_) | Self::Hosts(_) | Self::Site(..) => {
                false
            }
            Self::BigHeader(len) => *len > 400_000,
            Self::ManyHeaders(count) => *count > 100,
            Self::LongQuery(len) => *len > 65_534,
            Self::BadHttp(_) => true,
        }
    }
}

impl Request {
    pub(super) fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            content_type: None,
            twist: Twist::None,
            framing: Some(0),
            body: Vec::new(),
        }
    }

    /// Whether the request must get a job.
    pub(super) fn is_valid(&self, all: &Description) -> bool {
        let typed = self.content_type.is_none_or(|(_, is_json)| is_json)
            && !matches!(self.twist, Twist::Coding(coding) if coding != "identity");
        self.method == "POST"
            && !self.twist.is_refused()
            && !matches!(self.twist, Twist::Hosts(_) | Twist::Site(_, true))
            && self.framing.is_some()
            && self.body.len() <= MAX_BODY_LEN
            && (self.body.is_empty() || typed)
            && all.describes_a_job(&self.path, &self.body)
    }

    /// Sends the request, from a thread that may block.
    pub(super) fn send(&self, addr: SocketAddr) -> Result<RawAnswer, String> {
        let answer = Handle::current().block_on(exchange(addr, self.bytes()))?;
        let is_known = answer.head().starts_with("http/1.1 ");
        if is_known {
            Ok(answer)
        } else {
            Err(format!("{answer:?}"))
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let query = match self.twist {
            Twist::LongQuery(len) => format!("?{}", "q".repeat(len)),
            _ => String::new(),
        };
        let mut bytes = format!("{} {}{query} HTTP/1.1\r\n", self.method, self.path).into_bytes();
        let host = match self.twist {
            Twist::Hosts(lines) => lines,
            _ => "host: x\r\n",
        };
        bytes.extend_from_slice(host.as_bytes());
        bytes.extend_from_slice(b"connection: close\r\n");
        if let Twist::Site(lines, _) = self.twist {
            bytes.extend_from_slice(lines.as_bytes());
        }
        let mut header = |name: &str, value: &[u8]| {
            bytes.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
        };
        match &self.twist {
            Twist::Header(name, value) => header(name, value),
            Twist::Coding(coding) => header("content-encoding", coding.as_bytes()),
            Twist::BigHeader(len) => header("x-big", &vec![b'y'; *len]),
            Twist::ManyHeaders(count) => (0..*count).for_each(|_| header("x", b"y")),
            Twist::BadHttp(line) => header(line, b""),
            Twist::None | Twist::LongQuery(_) | Twist::Hosts(_) | Twist::Site(..) => {}
        }
        if let Some((content_type, _)) = self.content_type {
            header("content-type", content_type.as_bytes());
        }
        match self.framing {
            None => bytes.extend_from_slice(b"\r\n"),
            Some(0) => {
                let length = format!("content-length: {}\r\n\r\n", self.body.len());
                bytes.extend_from_slice(length.as_bytes());
                bytes.extend_from_slice(&self.body);
            }
            Some(length) => {
                bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
                for chunk in self.body.chunks(length) {
                    let head = format!("{:x}\r\n", chunk.len());
                    bytes.extend_from_slice(&[head.as_bytes(), chunk, b"\r\n"].concat());
                }
                bytes.extend_from_slice(b"0\r\n\r\n");
            }
        }
        bytes
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes();
        let text = String::from_utf8_lossy(&bytes);
        let start: String = text.chars().take(300).collect();
        let end: String = text.chars().skip(300).collect();
        let end = &end[end.floor_char_boundary(end.len().saturating_sub(300))..];
        write!(f, "{start:?} ... {end:?} ({} bytes)", bytes.len())
    }
}

pub(super) fn requests(all: &Description) -> impl Strategy<Value = Request> + use<> {
    let registrations = all.registrations().into_iter();
    let registrations = registrations.map(|path| (Just(path.clone()), bodies(all, &path)).boxed());
    let registrations = Union::new(registrations);
    // Other paths get the same bodies.
    let any_path = (
        select(all.paths()),
        registrations.clone().prop_map(|(_, body)| body),
    );
    let paths = prop_oneof![8 => registrations, 1 => any_path];
    let odd = [
        "GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "post",
    ];
    let methods = prop_oneof![12 => Just("POST"), 1 => one_of(&odd)];
    let types = [
        ("application/json", true),
        ("Application/JSON; charset=utf-16", true),
        ("application/vnd.acme+json", true),
        ("", true),
        ("text/json", false),
        ("application/x-www-form-urlencoded", false),
        ("application/", false),
        ("image/svg+json", false),
        ("\u{e9}\u{fffd};;,=", false),
    ];
    let types = prop_oneof![
        4 => Just(None),
        4 => Just(Some(types[0])),
        2 => one_of(&types).prop_map(Some),
    ];
    let framing = prop_oneof![4 => Just(0), 1 => 1..5_000_usize];
    (paths, methods, types, twists(), framing).prop_map(
        |((path, body), method, content_type, twist, framing)| Request {
            method: method.to_owned(),
            path,
            content_type,
            // A chunked body would hide a wrong length.
            framing: Some(if twist.is_refused() { 0 } else { framing }),
            twist,
            body,
        },
    )
}

fn twists() -> impl Strategy<Value = Twist> {
    let value = prop_oneof![Just(b'\t'), b' '..=b'~', 0x80..=0xff_u8];
    let known = [
        ("Accept", "image/png;q=2"),
        ("Accept-Encoding", "gzip"),
        ("Expect", "100-continue"),
        ("Expect", "a miracle"),
        ("Authorization", "Basic \u{fffd}"),
        ("Upgrade", "h2c"),
        ("Range", "bytes=5-1"),
        ("If-None-Match", "*"),
        ("X-HTTP-Method-Override", "DELETE"),
    ];
    let bad = [
        "x y",
        "",
        "\u{e9}",
        "x\0",
        "x: \0\r\ny",
        "content-length: 1\r\ncontent-length: 2\r\nx",
        "content-length: -1\r\nx",
    ];
    let sites = [
        ("sec-fetch-site: cross-site\r\n", true),
        ("Sec-Fetch-Site: same-site\r\norigin: http://x\r\n", true),
        ("origin: http://y\r\n", true),
        ("origin: null\r\n", true),
        ("sec-fetch-site: same-origin\r\norigin: http://y\r\n", false),
        ("origin: https://x\r\n", false),
    ];
    let hosts = ["", "host: x\r\nHost: x\r\n", "host: a b\r\n"];
    prop_oneof![
        20 => Just(Twist::None),
        3 => ("x-[a-z0-9!#$%&'*+.^_`|~-]{0,20}", vec(value, 0..60))
            .prop_map(|(name, value)| Twist::Header(name, value)),
        3 => one_of(&known)
            .prop_map(|(name, value)| Twist::Header(name.to_owned(), value.into())),
        1 => one_of(&["identity", "gzip", "br, gzip"]).prop_map(Twist::Coding),
        1 => one_of(&[9_000_usize, 300_000, 2_000_000]).prop_map(Twist::BigHeader),
        1 => one_of(&[80_usize, 120, 5_000]).prop_map(Twist::ManyHeaders),
        1 => one_of(&[0_usize, 60_000, 66_000]).prop_map(Twist::LongQuery),
        1 => one_of(&hosts).prop_map(Twist::Hosts),
        2 => one_of(&sites).prop_map(|(lines, other)| Twist::Site(lines, other)),
        1 => one_of(&bad).prop_map(Twist::BadHttp),
    ]
}
