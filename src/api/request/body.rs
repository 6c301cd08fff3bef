//! Reads a request's body: of the right type, of bounded size, in bounded time.
//!
//! What the bytes mean is the business of `object`.

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
};
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, timeout_at};

use super::object::place;
use crate::api::problem::Problem;
use crate::shortened::shortened;

/// The largest body that is accepted.
pub(in crate::api) const MAX_BODY_LEN: usize = 64 * 1024;

/// How much of an oversized body is read and dropped. A client that is still sending when
/// its connection is closed often loses the answer to the reset that follows.
const MAX_DROPPED_LEN: usize = 1024 * 1024;

/// Reads the whole body, at most until `deadline`.
///
/// The content type matters only where there is content, so that a bare
/// `curl -X POST -d ''`, which calls its empty body a form, is taken.
///
/// # Errors
///
/// 408, 413 and 415, and 400 when the body breaks off or is no UTF-8.
pub(in crate::api) async fn read(request: Request, deadline: Instant) -> Result<String, Problem> {
    let (parts, body) = request.into_parts();
    let refuse_unread = parts.headers.contains_key(header::EXPECT);
    let bytes = collect(body, refuse_unread, deadline).await?;
    if !bytes.is_empty() {
        require_json(&parts.headers)?;
    }
    String::from_utf8(bytes).map_err(|why| {
        let offset = why.utf8_error().valid_up_to();
        let message = format!("invalid UTF-8 at {}", place(why.as_bytes(), offset));
        Problem::not_json(message, &String::from_utf8_lossy(why.as_bytes()))
    })
}

/// `refuse_unread`: the client waits for a `100 Continue`, which reading would send.
async fn collect(body: Body, refuse_unread: bool, deadline: Instant) -> Result<Vec<u8>, Problem> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > MAX_BODY_LEN && (refuse_unread || announced > MAX_DROPPED_LEN) {
        return Err(too_large());
    }

    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::new();
    let whole = timeout_at(deadline, async {
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|why| broken_off(&why))?;
            if bytes.len() + chunk.len() > MAX_BODY_LEN {
                return Ok(false);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(true)
    });
    match whole.await {
        Ok(Ok(true)) => Ok(bytes),
        Ok(Ok(false)) => {
            // Whether all of it came does not matter: the answer is the same.
            drop(timeout_at(deadline, drop_rest(chunks)).await);
            Err(too_large())
        }
        Ok(Err(problem)) => Err(problem),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "request body read timeout",
        )),
    }
}

async fn drop_rest<E>(mut chunks: impl Stream<Item = Result<Bytes, E>> + Unpin) {
    let mut dropped = 0;
    while dropped < MAX_DROPPED_LEN
        && let Some(Ok(chunk)) = chunks.next().await
    {
        dropped += chunk.len();
    }
}

fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    if let Some(coding) = headers.get(header::CONTENT_ENCODING)
        && !coding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        return Err(unsupported("content encoding", coding, "none"));
    }
    match headers.get(header::CONTENT_TYPE) {
        Some(content_type) if !is_json(content_type.as_bytes()) => Err(unsupported(
            "content type",
            content_type,
            "application/json",
        )),
        _ => Ok(()),
    }
}

/// Parameters such as a charset are ignored: JSON is UTF-8 whatever they say (RFC 8259, 8.1).
fn is_json(content_type: &[u8]) -> bool {
    let Ok(content_type) = std::str::from_utf8(content_type) else {
        return false;
    };
    let essence = content_type.split(';').next().unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    essence.is_empty()
        || essence == "application/json"
        || essence
            .strip_prefix("application/")
            .and_then(|subtype| subtype.strip_suffix("+json"))
            .is_some_and(|name| !name.is_empty())
}

fn unsupported(what: &str, found: &HeaderValue, expected: &str) -> Problem {
    let found = String::from_utf8_lossy(found.as_bytes());
    let found = shortened(&found);
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!("unknown {what}: {found}, expected {expected}"),
    )
}

fn too_large() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("request body is too large limit={MAX_BODY_LEN} bytes"),
    )
}

fn broken_off(why: &axum::Error) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        format!("cannot read request body: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use axum::http::request::Builder;
    use futures_util::stream;

    use super::*;

    fn post() -> Builder {
        Request::post("/")
    }

    async fn read_within(request: Request, time: Duration) -> Result<String, StatusCode> {
        read(request, Instant::now() + time)
            .await
            .map_err(|problem| axum::response::IntoResponse::into_response(problem).status())
    }

    async fn read_body(builder: Builder, body: impl Into<Body>) -> Result<String, StatusCode> {
        let request = builder.body(body.into()).unwrap();
        read_within(request, Duration::from_secs(5)).await
    }

    /// A body of `chunks` KiB and unknown length.
    fn chunked(chunks: usize) -> impl Stream<Item = Result<Vec<u8>, Infallible>> {
        stream::iter((0..chunks).map(|_| Ok(vec![b' '; 1024])))
    }

    #[tokio::test]
    async fn only_json_is_taken() {
        for content_type in [
            "",
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=utf-8",
            "application/problem+json",
            "application/vnd.acme.v1+json ; x=y",
        ] {
            let builder = post().header(header::CONTENT_TYPE, content_type);
            assert_eq!(
                read_body(builder, "{}").await.unwrap(),
                "{}",
                "{content_type}"
            );
        }
        assert_eq!(read_body(post(), "{}").await.unwrap(), "{}");

        for content_type in [
            "text/plain",
            "text/json",
            "application/x-www-form-urlencoded",
            "application/jsonp",
            "application/+json",
            "image/svg+json",
            "json",
            "\u{e9}",
        ] {
            let value = HeaderValue::from_bytes(content_type.as_bytes()).unwrap();
            let builder = post().header(header::CONTENT_TYPE, value);
            assert_eq!(
                read_body(builder, "{}").await.unwrap_err(),
                415,
                "{content_type}"
            );
        }
    }

    #[tokio::test]
    async fn the_type_of_nothing_does_not_matter() {
        let form = || post().header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        assert_eq!(read_body(form(), "").await.unwrap(), "");
        assert_eq!(read_body(form(), " ").await.unwrap_err(), 415);
    }

    #[tokio::test]
    async fn a_compressed_body_is_415() {
        let encoded = |coding| post().header(header::CONTENT_ENCODING, coding);
        assert_eq!(read_body(encoded("gzip"), "{}").await.unwrap_err(), 415);
        assert_eq!(read_body(encoded("identity"), "{}").await.unwrap(), "{}");
    }

    #[tokio::test]
    async fn the_size_has_a_limit_whether_announced_or_not() {
        for (len, accepted) in [(MAX_BODY_LEN, true), (MAX_BODY_LEN + 1, false)] {
            let result = read_body(post(), "x".repeat(len)).await;
            assert_eq!(
                result.map(|text| text.len()),
                accepted.then_some(len).ok_or(StatusCode::PAYLOAD_TOO_LARGE)
            );
        }
        for (chunks, accepted) in [(64, true), (65, false), (10_000, false)] {
            let result = read_body(post(), Body::from_stream(chunked(chunks))).await;
            assert_eq!(
                result.map(|text| text.len()),
                accepted
                    .then_some(MAX_BODY_LEN)
                    .ok_or(StatusCode::PAYLOAD_TOO_LARGE)
            );
        }
    }

    #[tokio::test]
    async fn what_is_too_much_is_read_and_dropped_up_to_a_limit() {
        const MAX_KIB: usize = (MAX_BODY_LEN + MAX_DROPPED_LEN) / 1024;
        for (chunks, read) in [(100, 100), (10_000, MAX_KIB + 1)] {
            let sent = Arc::new(AtomicUsize::new(0));
            let counter = sent.clone();
            let body = chunked(chunks).inspect(move |_| {
                counter.fetch_add(1, Ordering::Relaxed);
            });
            let result = read_body(post(), Body::from_stream(body)).await;
            assert_eq!(result.unwrap_err(), 413);
            assert_eq!(sent.load(Ordering::Relaxed), read);
        }
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_408_at_the_deadline() {
        let time = Duration::from_millis(50);
        for chunks in [0, 1, 64] {
            let body = Body::from_stream(chunked(chunks).chain(stream::pending()));
            let started = Instant::now();
            let result = read_within(post().body(body).unwrap(), time).await;
            assert_eq!(result.unwrap_err(), 408);
            assert!(started.elapsed() < Duration::from_secs(2));
        }
    }

    #[tokio::test]
    async fn a_large_body_that_does_not_end_is_413_at_the_deadline() {
        let body = Body::from_stream(chunked(65).chain(stream::pending()));
        let result = read_within(post().body(body).unwrap(), Duration::from_millis(50)).await;
        assert_eq!(result.unwrap_err(), 413);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_or_is_no_text_is_400() {
        let broken = stream::iter([Ok(vec![b'{']), Err(std::io::Error::other("reset"))]);
        let result = read_body(post(), Body::from_stream(broken)).await;
        assert_eq!(result.unwrap_err(), 400);
        for bytes in [&b"\xff"[..], b"{\"message\":\"\xed\xa0\x80\"}"] {
            assert_eq!(read_body(post(), bytes.to_vec()).await.unwrap_err(), 400);
        }
    }
}
