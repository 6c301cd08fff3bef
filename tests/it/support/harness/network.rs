//! The network between a program and its Redis, which can be cut and made slow.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{FaultProxy, MBIT, PATIENCE, Rate, Redis, SlowLine, eventually};

#[tokio::test]
async fn a_proxy_cuts_and_mends_the_network() {
    let redis = Redis::start().await;
    let proxy: FaultProxy = redis.proxy().await;
    let client = redis::Client::open(format!("redis://{}/", proxy.addr())).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let ping = redis::cmd("PING");
    ping.query_async::<()>(&mut connection).await.unwrap();

    proxy.disable().await.unwrap();
    ping.query_async::<()>(&mut connection).await.unwrap_err();
    proxy.enable().await.unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    ping.query_async::<()>(&mut connection).await.unwrap();
}

#[tokio::test]
async fn a_slow_line_carries_what_its_rate_allows_and_buffers_little() {
    let redis = Redis::start().await;
    let line = SlowLine::to(redis.addr()).await;
    redis.cmd(&["SET", "key", &"x".repeat(100_000)]).await;
    let mut client = TcpStream::connect(line.addr()).await.unwrap();
    let mut reply = vec![0; 100_011];
    // One direction with a rate, both directions under one rate, and a line without a rate.
    for (rate, sent) in [
        (Rate::Each(4 * MBIT), 100_000),
        (Rate::Together(4 * MBIT), 200_000),
        (Rate::Unlimited, 0),
    ] {
        line.set_rate(rate);
        let began = Instant::now();
        let echo = format!("*2\r\n$4\r\nECHO\r\n$100000\r\n{}\r\n", "x".repeat(100_000));
        let command = if sent == 200_000 {
            &echo
        } else {
            "*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n"
        };
        client.write_all(command.as_bytes()).await.unwrap();
        client.read_exact(&mut reply).await.unwrap();
        let least = Duration::from_micros(sent * 1_000_000 / (4 * MBIT));
        let took = began.elapsed();
        assert!(took * 10 >= least * 9, "{rate:?}: {took:?}");
        assert!(
            took <= least + Duration::from_millis(150),
            "{rate:?}: {took:?}"
        );
    }
    line.set_delay(Duration::from_millis(100));
    let began = Instant::now();
    client.write_all(b"PING\r\n").await.unwrap();
    client.read_exact(&mut reply[..7]).await.unwrap();
    let took = began.elapsed();
    assert!((200..400).contains(&took.as_millis()), "{took:?}");

    // A server that sends more than the line carries finds the line full.
    line.set_delay(Duration::ZERO);
    line.set_rate(Rate::Each(1000));
    redis.cmd(&["SET", "key", &"x".repeat(8_000_000)]).await;
    client.write_all(b"GET key\r\n").await.unwrap();
    eventually("Redis keeps most of the reply", PATIENCE, async || {
        let list: String = redis.query(&["CLIENT", "LIST"]).await;
        let waiting = list.lines().filter_map(|line| {
            let (_, rest) = line.split_once(" omem=")?;
            rest.split(' ').next()?.parse::<u64>().ok()
        });
        (waiting.max()? > 4_000_000).then_some(())
    })
    .await;
}
