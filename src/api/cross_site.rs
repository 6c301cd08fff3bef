//! Requests that pages of other sites make in a visitor's browser. Pages that the settings allow may
//! read the answers. No other page may change anything.
//!
//! Before some requests a browser asks what the page may do (a preflight). It sends a form without
//! asking, since the page cannot read the answer; but a form can register a job all the same, so
//! that is refused here. Clients that are not browsers do not name a site, and nothing changes for
//! them.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    response::{IntoResponse, Response},
};
use tower::ServiceExt;
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, Any, CorsLayer, ExposeHeaders};
use url::Url;

use super::problem::Problem;
use crate::config::CorsConfig;

/// In a list of the settings, this means everything.
const ANY: &str = "*";

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The routes of `router`, with answers to preflights, and closed to pages that the settings do not
/// allow.
pub(super) fn guard(router: Router, cors: &CorsConfig) -> Router {
    let guard = Arc::new(Guard {
        cors: cors.clone(),
        router_with_cors: match cors.allowed_origins.is_empty() {
            true => router.clone(),
            false => router.clone().layer(cors_layer(cors)),
        },
        router,
    });
    Router::new().fallback(async move |request: Request| guard.answer(request).await)
}

#[derive(Debug)]
struct Guard {
    cors: CorsConfig,
    router: Router,
    /// The same routes, whose answers have the CORS headers. It treats every OPTIONS request as a
    /// preflight.
    router_with_cors: Router,
}

impl Guard {
    async fn answer(&self, request: Request) -> Response {
        let mut answer = if request.method() == Method::OPTIONS {
            self.options(request).await
        } else if let Err(problem) = self.check(&request) {
            problem.into_response()
        } else {
            call(&self.router_with_cors, request).await
        };
        if let Some(allow) = answer.headers_mut().get_mut(header::ALLOW) {
            // The routes do not know that OPTIONS is answered here.
            let all = [allow.as_bytes(), b",OPTIONS"].concat();
            *allow = HeaderValue::from_bytes(&all)
                .expect("cannot fail because a list of methods is the text of a header");
        }
        answer
    }

    /// Answers OPTIONS. The answer always names the methods of the path. To the preflight of an
    /// allowed page it also says what the page may do.
    async fn options(&self, request: Request) -> Response {
        let headers = request.headers();
        let wanted = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD);
        let is_allowed = self.allows_origin(headers)
            && wanted
                .and_then(|it| it.to_str().ok())
                .is_some_and(|it| self.allows_method(it));
        let wanted = wanted.cloned();
        let (parts, _) = request.into_parts();
        let mut answer = call(
            &self.router,
            Request::from_parts(parts.clone(), Body::empty()),
        )
        .await;
        if is_allowed && has_method(answer.headers(), wanted.as_ref()) {
            let preflight = Request::from_parts(parts, Body::empty());
            let allowances = call(&self.router_with_cors, preflight).await;
            answer.headers_mut().extend(allowances.headers().clone());
        }
        answer
    }

    /// Refuses a request that may change something and is from a page that the settings do not
    /// allow.
    fn check(&self, request: &Request) -> Result<(), Problem> {
        let headers = request.headers();
        let is_safe = matches!(
            *request.method(),
            Method::GET | Method::HEAD | Method::TRACE
        );
        let is_allowed = || self.allows_origin(headers) && self.may_send(request.method());
        if is_safe || is_of_this_site(headers) || is_allowed() {
            return Ok(());
        }
        Err(Problem::other_site(headers.get(header::ORIGIN)))
    }

    /// Whether the settings allow the origin of the page.
    fn allows_origin(&self, headers: &HeaderMap) -> bool {
        let allowed = &self.cors.allowed_origins;
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let is_named = |origin: &HeaderValue| allowed.iter().any(|it| it == origin);
        has_any(allowed) || (origins.next().is_some_and(is_named) && origins.all(is_named))
    }

    /// Whether an allowed page may use the method. Without a list of methods, it may use POST, which a
    /// browser sends without a preflight.
    fn may_send(&self, method: &Method) -> bool {
        let listed = !self.cors.allowed_methods.is_empty();
        (*method == Method::POST && !listed) || self.allows_method(method.as_str())
    }

    /// Whether the settings list the method.
    fn allows_method(&self, method: &str) -> bool {
        let allowed = &self.cors.allowed_methods;
        has_any(allowed) || allowed.iter().any(|it| it.to_ascii_uppercase() == method)
    }
}

/// Whether nothing in the request says that a page of another site made it.
fn is_of_this_site(headers: &HeaderMap) -> bool {
    // What the browser says about the page is better than comparing names: behind a proxy this
    // server may have another name. `none` means that the user made the request, not a page.
    let mut sites = headers.get_all(SEC_FETCH_SITE).iter().peekable();
    if sites.peek().is_some() {
        return sites.all(|site| site == "same-origin" || site == "none");
    }
    let host = headers.get(header::HOST);
    let mut origins = headers.get_all(header::ORIGIN).iter();
    origins.all(|origin| host.is_some_and(|host| is_origin_of(origin, host).unwrap_or(false)))
}

/// Whether `origin` and `host` are the same place, whatever the scheme is: TLS may end at a proxy.
fn is_origin_of(origin: &HeaderValue, host: &HeaderValue) -> Option<bool> {
    let origin = Url::parse(origin.to_str().ok()?).ok()?;
    let host = format!("{}://{}", origin.scheme(), host.to_str().ok()?);
    let host = Url::parse(&host).ok()?;
    let place = |url: &Url| Some((url.host()?.to_owned(), url.port_or_known_default()?));
    Some(place(&origin)? == place(&host)?)
}

/// Whether the Allow header of an answer names this method.
fn has_method(headers: &HeaderMap, method: Option<&HeaderValue>) -> bool {
    let allow = headers.get(header::ALLOW).map(HeaderValue::as_bytes);
    let mut methods = allow.unwrap_or_default().split(|byte| *byte == b',');
    methods.any(|it| method.is_some_and(|method| method.as_bytes() == it.trim_ascii()))
}

async fn call(router: &Router, request: Request) -> Response {
    let Ok(answer) = router.clone().oneshot(request).await;
    answer
}

/// Adds the headers that the settings ask for.
fn cors_layer(cors: &CorsConfig) -> CorsLayer {
    let header_names = |names: &[String]| -> Vec<HeaderName> {
        names.iter().filter_map(|it| it.parse().ok()).collect()
    };
    let origins = cors.allowed_origins.iter().filter_map(|it| it.parse().ok());
    let methods = cors.allowed_methods.iter();
    let methods = methods.filter_map(|it| it.to_ascii_uppercase().parse::<Method>().ok());
    CorsLayer::new()
        .allow_origin(match has_any(&cors.allowed_origins) {
            true => AllowOrigin::from(Any),
            false => AllowOrigin::list(origins),
        })
        .allow_methods(match has_any(&cors.allowed_methods) {
            true => AllowMethods::from(Any),
            false => AllowMethods::list(methods),
        })
        .allow_headers(match has_any(&cors.allowed_headers) {
            // For a browser, `*` does not include Authorization.
            true => AllowHeaders::mirror_request(),
            false => AllowHeaders::list(header_names(&cors.allowed_headers)),
        })
        .expose_headers(match has_any(&cors.expose_headers) {
            true => ExposeHeaders::from(Any),
            false => ExposeHeaders::list(header_names(&cors.expose_headers)),
        })
}

fn has_any(list: &[String]) -> bool {
    list.iter().any(|it| it == ANY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(HeaderName, &str)]) -> HeaderMap {
        let list = list
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()));
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn what_a_browser_says_of_its_page_decides() {
        for (site, own) in [
            ("same-origin", true),
            ("none", true),
            ("same-site", false),
            ("cross-site", false),
            ("Same-Origin", false),
            ("", false),
        ] {
            for origin in ["http://x", "http://y", "null"] {
                let all = [
                    (header::HOST, "x"),
                    (header::ORIGIN, origin),
                    (SEC_FETCH_SITE, site),
                ];
                assert_eq!(is_of_this_site(&headers(&all)), own, "{site} {origin}");
            }
        }
        let two = [
            (SEC_FETCH_SITE, "same-origin"),
            (SEC_FETCH_SITE, "cross-site"),
        ];
        assert!(!is_of_this_site(&headers(&two)));
    }

    #[test]
    fn without_a_word_of_the_browser_the_origin_is_compared_with_the_host() {
        for (host, origin, own) in [
            ("x", "http://x", true),
            ("x", "https://x", true),
            ("X:80", "http://x", true),
            ("x:443", "https://x", true),
            ("localhost:8080", "http://localhost:8080", true),
            ("[::1]:8080", "http://[::1]:8080", true),
            ("localhost:8080", "http://localhost:3000", false),
            ("localhost:8080", "http://localhost", false),
            ("x:80", "https://x", false),
            ("x", "http://y", false),
            ("x", "http://x.y", false),
            ("x", "null", false),
            ("x", "", false),
            ("x", "x", false),
            ("", "http://x", false),
            ("x", "data:x", false),
            ("null", "null", false),
        ] {
            let all = [(header::HOST, host), (header::ORIGIN, origin)];
            assert_eq!(is_of_this_site(&headers(&all)), own, "{host} {origin}");
        }
        assert!(is_of_this_site(&headers(&[(header::HOST, "x")])));
        assert!(!is_of_this_site(&headers(&[(header::ORIGIN, "http://x")])));
        let two = [
            (header::HOST, "x"),
            (header::ORIGIN, "http://x"),
            (header::ORIGIN, "http://y"),
        ];
        assert!(!is_of_this_site(&headers(&two)));
    }
}
