//! Whether the headers of a request announce JSON.

use axum::http::{HeaderMap, header};

use crate::api::problem::Problem;

/// # Errors
///
/// 415 when the body is compressed, or is something else than JSON. Without a content type it
/// counts as JSON.
pub(super) fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    if let Some(coding) = headers.get(header::CONTENT_ENCODING)
        && !coding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        return Err(Problem::unknown_content_encoding(coding));
    }
    match headers.get(header::CONTENT_TYPE) {
        Some(content_type) if !is_json(content_type.as_bytes()) => {
            Err(Problem::unknown_content_type(content_type))
        }
        _ => Ok(()),
    }
}

/// Parameters such as a charset are ignored: JSON is always UTF-8 (RFC 8259, 8.1).
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

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn is_taken(content_type: &[u8]) -> bool {
        let value = HeaderValue::from_bytes(content_type).unwrap();
        require_json(&HeaderMap::from_iter([(header::CONTENT_TYPE, value)])).is_ok()
    }

    #[test]
    fn only_json_is_taken() {
        require_json(&HeaderMap::new()).unwrap();
        for content_type in [
            "",
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=utf-8",
            "application/problem+json",
            "application/vnd.acme.v1+json ; x=y",
        ] {
            assert!(is_taken(content_type.as_bytes()), "{content_type}");
        }
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
            assert!(!is_taken(content_type.as_bytes()), "{content_type}");
        }
    }
}
