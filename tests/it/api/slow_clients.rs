//! Connections that never finish their headers. The server closes them after five seconds, and they
//! do not disturb other clients.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{REGISTER, RawClient, TestApp};

/// The time that a client may take for its headers.
const HEADER_LIMIT: Duration = Duration::from_secs(5);

/// Registers jobs one after the other for `time`, and returns how long each took.
async fn latencies(app: &TestApp, time: Duration) -> Vec<Duration> {
    let mut latencies = Vec::new();
    let start = Instant::now();
    while start.elapsed() < time {
        let sent = Instant::now();
        app.registered(json!({"message": "good"})).await;
        latencies.push(sent.elapsed());
    }
    latencies.sort_unstable();
    latencies
}

/// Opens a connection, sends half a request, and returns how long the connection was open.
async fn slow_client(addr: std::net::SocketAddr) -> Duration {
    let mut client = RawClient::connect(addr).await;
    let head = format!("POST {REGISTER} HTTP/1.1\r\nhost: x\r\nx-slow: ");
    client.send(head).await;
    let start = Instant::now();
    client.rest().await;
    start.elapsed()
}

async fn slow_clients_disturb_nobody(count: usize) {
    // Both ends of each connection need a file. This end is in the test's process.
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let app = TestApp::start().await;
    let addr = app.server.http_addr().await;
    let alone = latencies(&app, Duration::from_secs(1)).await;
    let mut slow = JoinSet::new();
    for _ in 0..count {
        slow.spawn(slow_client(addr));
    }
    // The slow clients are connected, and stay connected for the next seconds.
    let among = latencies(&app, Duration::from_secs(3)).await;
    assert_eq!(slow.len(), count);
    assert!(slow.try_join_next().is_none(), "closed early");
    let percentile = |sorted: &[Duration], share: usize| sorted[(sorted.len() - 1) * share / 100];
    for share in [50, 99] {
        let (alone, among) = (percentile(&alone, share), percentile(&among, share));
        eprintln!("p{share}: {alone:?} alone, {among:?} among {count} slow clients");
    }
    // The median request takes at most twice as long, and 20 ms more for a busy machine.
    let (alone, among) = (percentile(&alone, 50), percentile(&among, 50));
    assert!(
        among < alone * 2 + Duration::from_millis(20),
        "{alone:?} {among:?}"
    );
    for lived in slow.join_all().await {
        assert!(lived > HEADER_LIMIT - Duration::from_secs(1), "{lived:?}");
        assert!(lived < HEADER_LIMIT + Duration::from_secs(3), "{lived:?}");
    }
    app.registered(json!({"message": "afterwards"})).await;
}

#[tokio::test]
async fn slow_clients_are_closed_and_disturb_nobody() {
    slow_clients_disturb_nobody(500).await;
}

#[tokio::test]
#[ignore = "long: thousands of connections, for more than a tenth of a minute"]
async fn thousands_of_slow_clients_are_closed_and_disturb_nobody() {
    slow_clients_disturb_nobody(2_000).await;
}
