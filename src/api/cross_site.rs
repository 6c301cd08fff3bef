//! Pages of other sites, which make a visitor's browser send requests: those that the settings
//! allow may read the answers, and no other may change anything.
//!
//! A browser asks before it sends some requests (a preflight), and lets a page read only what
//! it may. It does not ask before a form is sent, whose answer is of no interest to the attacker.
//! Clients that are no browsers say nothing of sites, and are not affected.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use tower::ServiceExt;
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, Any, CorsLayer, ExposeHeaders};
use url::Url;

use super::problem::Problem;
use crate::{config::CorsConfig, shortened::shortened};

/// Stands for everything in a list of the settings.
const ANY: &str = "*";

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The same routes for browsers: with the answers to their questions, and without what other
/// sites may not do.
pub(super) fn guard(router: Router, cors: &CorsConfig) -> Router {
    let guard = Arc::new(Guard {
        cors: cors.clone(),
        shared: match cors.allowed_origins.is_empty() {
            true => router.clone(),
            false => router.clone().layer(layer(cors)),
        },
        router,
    });
    Router::new().fallback(async move |request: Request| guard.answer(request).await)
}

#[derive(Debug)]
struct Guard {
    cors: CorsConfig,
    router: Router,
    /// The same, and what its answers say to browsers of other sites' pages. It takes any
    /// OPTIONS for a preflight.
    shared: Router,
}

impl Guard {
    async fn answer(&self, request: Request) -> Response {
        let mut answer = if request.method() == Method::OPTIONS {
            self.options(request).await
        } else if let Err(problem) = self.check(&request) {
            problem.into_response()
        } else {
            call(&self.shared, request).await
        };
        if let Some(allow) = answer.headers_mut().get_mut(header::ALLOW) {
            // The routes know nothing of it.
            let all = [allow.as_bytes(), b",OPTIONS"].concat();
            *allow = HeaderValue::from_bytes(&all)
                .expect("cannot fail because a list of methods is the text of a header");
        }
        answer
    }

    /// A preflight is told what the page may do; anybody, which methods there are.
    async fn options(&self, request: Request) -> Response {
        let headers = request.headers();
        let wanted = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD);
        let is_allowed = self.is_allowed(headers)
            && wanted
                .and_then(|it| it.to_str().ok())
                .is_some_and(|it| self.allows(it));
        let wanted = wanted.cloned();
        let (parts, _) = request.into_parts();
        let mut answer = call(
            &self.router,
            Request::from_parts(parts.clone(), Body::empty()),
        )
        .await;
        if is_allowed && has_method(answer.headers(), wanted.as_ref()) {
            let preflight = Request::from_parts(parts, Body::empty());
            let allowances = call(&self.shared, preflight).await;
            answer.headers_mut().extend(allowances.headers().clone());
        }
        answer
    }

    /// Refuses what a page of another site, which is not allowed, would change.
    fn check(&self, request: &Request) -> Result<(), Problem> {
        let headers = request.headers();
        let is_safe = matches!(
            *request.method(),
            Method::GET | Method::HEAD | Method::TRACE
        );
        let is_allowed = || self.is_allowed(headers) && self.may_use(request.method());
        if is_safe || is_of_this_site(headers) || is_allowed() {
            return Ok(());
        }
        let origin = headers.get(header::ORIGIN).map(|it| it.as_bytes());
        let origin = String::from_utf8_lossy(origin.unwrap_or(b"another site")).into_owned();
        let origin = shortened(&origin);
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            format!(
                "pages of {origin} may not do this: cors.allowed_origins and cors.allowed_methods do \
                 not allow it"
            ),
        ))
    }

    /// Whether the settings name the origin of the page.
    fn is_allowed(&self, headers: &HeaderMap) -> bool {
        let allowed = &self.cors.allowed_origins;
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let is_named = |origin: &HeaderValue| allowed.iter().any(|it| it == origin);
        has_any(allowed) || (origins.next().is_some_and(is_named) && origins.all(is_named))
    }

    /// Where no methods are listed, an allowed page may use what a browser sends without asking.
    fn may_use(&self, method: &Method) -> bool {
        let listed = !self.cors.allowed_methods.is_empty();
        (*method == Method::POST && !listed) || self.allows(method.as_str())
    }

    fn allows(&self, method: &str) -> bool {
        let allowed = &self.cors.allowed_methods;
        has_any(allowed) || allowed.iter().any(|it| it.to_ascii_uppercase() == method)
    }
}

/// Whether no page of another site is behind the request, as far as it says.
fn is_of_this_site(headers: &HeaderMap) -> bool {
    // What the browser says about the page is better than a comparison: behind a proxy this
    // server may know itself by another name. `none` is the user's own doing.
    let mut sites = headers.get_all(SEC_FETCH_SITE).iter().peekable();
    if sites.peek().is_some() {
        return sites.all(|site| site == "same-origin" || site == "none");
    }
    let host = headers.get(header::HOST);
    let mut origins = headers.get_all(header::ORIGIN).iter();
    origins.all(|origin| host.is_some_and(|host| is_origin_of(origin, host).unwrap_or(false)))
}

/// Whether a page of `origin` came from `host`, over whichever scheme: TLS may end at a proxy.
fn is_origin_of(origin: &HeaderValue, host: &HeaderValue) -> Option<bool> {
    let origin = Url::parse(origin.to_str().ok()?).ok()?;
    let host = format!("{}://{}", origin.scheme(), host.to_str().ok()?);
    let host = Url::parse(&host).ok()?;
    let place = |url: &Url| Some((url.host()?.to_owned(), url.port_or_known_default()?));
    Some(place(&origin)? == place(&host)?)
}

/// Whether an answer that names the methods names this one.
fn has_method(headers: &HeaderMap, method: Option<&HeaderValue>) -> bool {
    let allow = headers.get(header::ALLOW).map(HeaderValue::as_bytes);
    let mut methods = allow.unwrap_or_default().split(|byte| *byte == b',');
    methods.any(|it| method.is_some_and(|method| method.as_bytes() == it.trim_ascii()))
}

async fn call(router: &Router, request: Request) -> Response {
    let Ok(answer) = router.clone().oneshot(request).await;
    answer
}

fn layer(cors: &CorsConfig) -> CorsLayer {
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
            // A browser does not take `*` for Authorization.
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
        // Appends those of one name.
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
    fn without_that_the_origin_is_compared_with_the_host() {
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
