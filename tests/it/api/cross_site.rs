//! Pages of other sites in a visitor's browser. Pages that the settings allow get the headers that
//! allow them, and may read every answer. No other page registers a job, whatever its request looks
//! like.

use std::net::SocketAddr;

use crate::support::{PATIENCE, Process, REGISTER, RawAnswer, Redis, TestApp, exchange};

const PAGE: &str = "http://localhost:3000";

/// The settings of the Go system's file.
const ALLOWED: [(&str, &str); 4] = [
    ("APP__CORS__ALLOWED_ORIGINS", PAGE),
    (
        "APP__CORS__ALLOWED_METHODS",
        "GET,POST,PUT,DELETE,PATCH,HEAD,OPTIONS",
    ),
    ("APP__CORS__ALLOWED_HEADERS", "Content-Type,Authorization"),
    ("APP__CORS__EXPOSE_HEADERS", "Retry-After"),
];

/// The headers by which a browser lets a page of another site do something.
fn allowances(answer: &RawAnswer) -> Vec<&str> {
    let lines = answer.head().lines();
    lines
        .filter(|line| line.starts_with("access-control-"))
        .collect()
}

/// Sends `request` (such as `GET /health`) with these header lines and this body.
async fn send(addr: SocketAddr, request: &str, lines: &[&str], body: &str) -> RawAnswer {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let text = format!(
        "{request} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n{lines}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    exchange(addr, &text).await.expect(&text)
}

async fn app(settings: &[(&str, &str)]) -> (TestApp, SocketAddr) {
    let app = TestApp::with(Redis::start().await, settings).await;
    app.server.wait_ready(PATIENCE).await;
    let addr = app.server.http_addr().await;
    (app, addr)
}

#[tokio::test]
async fn a_page_of_another_site_registers_nothing() {
    let (app, addr) = app(&[]).await;
    let register = format!("POST {REGISTER}");
    for site in [
        &["sec-fetch-site: cross-site", "origin: http://evil.example"][..],
        &["sec-fetch-site: same-site", "origin: http://localhost:3000"],
        &["sec-fetch-site: cross-site"],
        &["sec-fetch-site: cross-site", "origin: null"],
        &["origin: http://evil.example"],
        &["origin: http://localhost:3000"],
        &["origin: null"],
    ] {
        for content in [
            // A form, an empty form, and bodies whose content type the page left out or chose.
            ("content-type: application/x-www-form-urlencoded", "a=b"),
            ("content-type: application/x-www-form-urlencoded", ""),
            ("content-type: text/plain", ""),
            ("content-type: multipart/form-data; boundary=x", ""),
            ("content-type: application/json", "{}"),
            ("x: y", r#"{"message":"evil"}"#),
            ("x: y", ""),
        ] {
            let lines = [site, &[content.0]].concat();
            let answer = send(addr, &register, &lines, content.1).await;
            assert_eq!(answer.status, 403, "{lines:?}: {answer:?}");
            let content_type = answer.header("content-type");
            assert_eq!(content_type, Some("application/problem+json"));
            assert!(answer.text().contains("cors.allowed_origins"), "{answer:?}");
            assert!(allowances(&answer).is_empty(), "{answer:?}");
        }
        for request in ["PUT /health", "DELETE /nothing", "BREW /ready"] {
            assert_eq!(send(addr, request, site, "").await.status, 403, "{request}");
        }
        for request in ["GET /health", "HEAD /ready", "GET /openapi.json"] {
            let answer = send(addr, request, site, "").await;
            assert_eq!(answer.status, 200, "{request}");
            assert!(allowances(&answer).is_empty(), "{answer:?}");
        }
    }
    assert_eq!(app.redis.xlen().await, 0);
}

#[tokio::test]
async fn who_is_of_this_site_or_no_browser_registers_as_ever() {
    let (app, addr) = app(&[]).await;
    let (own, behind_tls) = (
        format!("origin: http://{addr}"),
        format!("origin: https://{addr}"),
    );
    let mut registered = 0;
    for site in [
        &[][..],
        &["sec-fetch-site: same-origin", &own],
        &[
            "sec-fetch-site: same-origin",
            "origin: https://of.the.proxy",
        ],
        &["sec-fetch-site: none"],
        &[own.as_str()],
        &[behind_tls.as_str()],
    ] {
        let answer = send(addr, &format!("POST {REGISTER}"), site, "{}").await;
        assert_eq!(answer.status, 201, "{site:?}: {answer:?}");
        registered += 1;
    }
    assert_eq!(app.redis.xlen().await, registered);
}

#[tokio::test]
async fn a_page_of_an_allowed_site_is_told_what_it_may_do_and_registers() {
    let (app, addr) = app(&ALLOWED).await;
    let page = format!("origin: {PAGE}");
    let preflight = [
        page.as_str(),
        "sec-fetch-site: same-site",
        "access-control-request-method: POST",
        "access-control-request-headers: authorization,content-type",
    ];
    let answer = send(addr, &format!("OPTIONS {REGISTER}"), &preflight, "").await;
    assert_eq!(answer.status, 204, "{answer:?}");
    let header = |name: &str| answer.header(name).unwrap_or_default().to_owned();
    assert_eq!(header("access-control-allow-origin"), PAGE);
    assert!(header("access-control-allow-methods").contains("post"));
    let headers = header("access-control-allow-headers");
    assert!(
        headers.contains("authorization") && headers.contains("content-type"),
        "{headers}"
    );
    assert!(header("vary").contains("origin"));
    assert_eq!(answer.header("access-control-allow-credentials"), None);

    let lines = [
        page.as_str(),
        "sec-fetch-site: same-site",
        "content-type: application/json",
    ];
    let register = format!("POST {REGISTER}");
    // The page may read errors too, so that it can show them.
    for (request, body, status) in [
        (register.as_str(), r#"{"message":"hi"}"#, 201),
        (&register, "{", 400),
        (&register, r#"{"delay_seconds":-1}"#, 422),
        (&register, &" ".repeat(65_537), 413),
        ("PUT /api/dm-jobqueue/register", "", 405),
        ("POST /nothing", "", 404),
        ("GET /health", "", 200),
        ("GET /ready", "", 200),
        ("GET /openapi.json", "", 200),
    ] {
        let answer = send(addr, request, &lines, body).await;
        assert_eq!(answer.status, status, "{request}: {answer:?}");
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed, Some(PAGE), "{request}: {answer:?}");
        assert!(answer.header("vary").unwrap_or_default().contains("origin"));
        let exposed = answer.header("access-control-expose-headers");
        assert_eq!(exposed, Some("retry-after"));
    }
    assert_eq!(app.redis.xlen().await, 1);
    app.redis.kill();
    app.server.wait_not_ready(PATIENCE).await;
    let answer = send(addr, &register, &lines, "{}").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE));
}

#[tokio::test]
async fn who_asks_for_what_is_not_allowed_is_told_nothing_but_the_methods() {
    let (app, addr) = app(&[
        ALLOWED[0],
        ("APP__CORS__ALLOWED_METHODS", "GET,POST"),
        ALLOWED[2],
    ])
    .await;
    let page = format!("origin: {PAGE}");
    for (path, origin, method, status) in [
        (REGISTER, "origin: http://evil.example", "POST", 204),
        (REGISTER, "origin: http://localhost:3001", "POST", 204),
        (REGISTER, "origin: null", "POST", 204),
        // A method that the route does not have, and methods that the settings leave out.
        (REGISTER, &page, "GET", 204),
        ("/health", &page, "POST", 204),
        ("/health", &page, "HEAD", 204),
        ("/nothing", &page, "POST", 404),
    ] {
        let method = format!("access-control-request-method: {method}");
        let answer = send(addr, &format!("OPTIONS {path}"), &[origin, &method], "").await;
        let case = format!("{path} {origin} {method}: {answer:?}");
        assert_eq!(answer.status, status, "{case}");
        assert!(allowances(&answer).is_empty(), "{case}");
    }
    // A page of another site is refused as if the settings allowed no site.
    let evil = ["origin: http://evil.example", "sec-fetch-site: cross-site"];
    assert_eq!(
        send(addr, &format!("POST {REGISTER}"), &evil, "{}")
            .await
            .status,
        403
    );
    assert_eq!(app.redis.xlen().await, 0);
}

#[tokio::test]
async fn every_site_is_allowed_where_the_settings_say_so() {
    let (app, addr) = app(&ALLOWED.map(|(key, _)| (key, "*"))).await;
    for site in ["http://evil.example", "null"] {
        let origin = format!("origin: {site}");
        let preflight = [
            origin.as_str(),
            "access-control-request-method: POST",
            "access-control-request-headers: authorization",
        ];
        let answer = send(addr, &format!("OPTIONS {REGISTER}"), &preflight, "").await;
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        let headers = answer.header("access-control-allow-headers");
        assert_eq!(headers, Some("authorization"), "{answer:?}");
        let lines = [origin.as_str(), "sec-fetch-site: cross-site"];
        let answer = send(addr, &format!("POST {REGISTER}"), &lines, "{}").await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    assert_eq!(app.redis.xlen().await, 2);
}

#[tokio::test]
async fn anybody_may_ask_for_the_methods_of_a_path() {
    let redis = Redis::reserve();
    for process in [
        Process::server(&redis).start(),
        Process::jobqueue(&redis).start(),
    ] {
        let addr = process.http_addr().await;
        for origin in [&[][..], &["origin: http://evil.example"]] {
            let answer = send(addr, "OPTIONS /ready", origin, "").await;
            assert_eq!(answer.status, 204, "{answer:?}");
            assert_eq!(answer.header("allow"), Some("get,head,options"));
            assert!(answer.body.is_empty(), "{answer:?}");
        }
        assert_eq!(send(addr, "OPTIONS /nothing", &[], "").await.status, 404);
    }
}

#[tokio::test]
async fn a_page_of_an_allowed_site_reads_whether_a_worker_is_ready() {
    let redis = Redis::start().await;
    let worker = Process::jobqueue(&redis).envs(&ALLOWED).start();
    worker.wait_ready(PATIENCE).await;
    let page = format!("origin: {PAGE}");
    let answer = send(worker.http_addr().await, "GET /ready", &[&page], "").await;
    assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE));
}

#[tokio::test]
async fn an_allowed_page_may_do_what_the_methods_allow() {
    let origins = ("APP__CORS__ALLOWED_ORIGINS", PAGE);
    for (methods, statuses) in [("GET", [403, 403]), ("POST", [201, 403]), ("", [201, 403])] {
        let (app, addr) = app(&[origins, ("APP__CORS__ALLOWED_METHODS", methods)]).await;
        let page = &[
            format!("origin: {PAGE}"),
            "sec-fetch-site: cross-site".to_owned(),
        ];
        let page: Vec<&str> = page.iter().map(String::as_str).collect();
        let register = send(addr, &format!("POST {REGISTER}"), &page, "").await;
        let put = send(addr, "PUT /health", &page, "").await;
        assert_eq!([register.status, put.status], statuses, "{methods}");
        let jobs = u64::from(register.status == 201);
        assert_eq!(app.redis.xlen().await + app.redis.scheduled().await, jobs);
    }
}
