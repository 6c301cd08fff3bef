//! Reads a request's body: JSON by its content type, of limited size, in limited time.
//!
//! What the text means is the business of `object`.

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::header,
};
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, timeout_at};

use super::{content_type::require_json, place::place};
use crate::api::problem::{Problem, words};

/// The largest body that is accepted.
pub(crate) const MAX_BODY_LEN: usize = 64 * 1024;

/// How much of a body that is too large is read and dropped. If a client still sends when its
/// connection is closed, the reset that follows often destroys the answer.
const MAX_DROPPED_LEN: usize = 1024 * 1024;

/// Reads the whole body, until `deadline` at the latest.
///
/// The content type of an empty body does not matter: `curl -X POST -d ''` calls its empty body a
/// form.
///
/// # Errors
///
/// 408 after the deadline, 413 when the body is too large, 415 when it is not JSON by its headers,
/// and 400 when it breaks off or is not UTF-8.
pub(crate) async fn read(request: Request, deadline: Instant) -> Result<String, Problem> {
    let (parts, body) = request.into_parts();
    let refuse_unread = parts.headers.contains_key(header::EXPECT);
    let bytes = collect(body, refuse_unread, deadline).await?;
    if !bytes.is_empty() {
        require_json(&parts.headers)?;
    }
    String::from_utf8(bytes).map_err(|why| {
        let offset = why.utf8_error().valid_up_to();
        let message = words::at(words::INVALID_UTF_8, &place(why.as_bytes(), offset));
        Problem::not_json(message, &String::from_utf8_lossy(why.as_bytes()))
    })
}

/// Reads the body's bytes.
///
/// `refuse_unread`: the client waits for a `100 Continue` before it sends a body. Reading would send
/// that, so a body that is too large is refused before it is read.
async fn collect(body: Body, refuse_unread: bool, deadline: Instant) -> Result<Vec<u8>, Problem> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > MAX_BODY_LEN && (refuse_unread || announced > MAX_DROPPED_LEN) {
        return Err(Problem::body_too_large(MAX_BODY_LEN));
    }

    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::new();
    let whole = timeout_at(deadline, async {
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|why| Problem::body_broken_off(&why))?;
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
            // The answer is the same whether the rest arrives in time or not.
            drop(timeout_at(deadline, drop_rest(chunks)).await);
            Err(Problem::body_too_large(MAX_BODY_LEN))
        }
        Ok(Err(problem)) => Err(problem),
        Err(_) => Err(Problem::body_too_slow()),
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

    use axum::http::{StatusCode, request::Builder};
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

    /// A body of `chunks` KiB that does not announce its length.
    fn chunked(chunks: usize) -> impl Stream<Item = Result<Vec<u8>, Infallible>> {
        stream::iter((0..chunks).map(|_| Ok(vec![b' '; 1024])))
    }

    #[tokio::test]
    async fn the_content_type_of_an_empty_body_does_not_matter() {
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
    async fn a_body_that_is_too_large_is_read_and_dropped_up_to_a_limit() {
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
    async fn a_body_that_does_not_arrive_is_408_at_the_deadline() {
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
