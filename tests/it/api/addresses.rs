//! Where the programs can be reached: over IPv4 and over IPv6, for each address of a host that a
//! client may use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use crate::support::{PATIENCE, Process, ProcessBuilder, Redis, http_client};

type Start = fn(&Redis) -> ProcessBuilder;
const BOTH: [(Start, &str); 2] = [
    (Process::server, "APP__SERVER"),
    (Process::jobqueue, "APP__JOBQUEUE"),
];

const IPV4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const IPV6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// The loopback addresses of this machine. A container often has no IPv6 address.
fn loopback() -> Vec<IpAddr> {
    let has = |address: &IpAddr| TcpListener::bind((*address, 0)).is_ok();
    [IPV4, IPV6].into_iter().filter(has).collect()
}

/// Whether the program answers `/health` at this address.
async fn is_served(address: IpAddr, port: u16) -> bool {
    let url = format!("http://{}/health", SocketAddr::new(address, port));
    let Ok(answer) = http_client().get(url).send().await else {
        return false;
    };
    answer.text().await.unwrap() == "OK"
}

#[tokio::test]
async fn every_address_and_localhost_are_reached_over_ipv4_and_ipv6() {
    let redis = Redis::reserve();
    for (start, section) in BOTH {
        for host in ["::", "localhost"] {
            let process = start(&redis).env(&format!("{section}__HOST"), host).start();
            let listens = process.http_addr().await;
            // This asks twice, because a fault could affect every second connection.
            for address in [loopback(), loopback()].concat() {
                let served = is_served(address, listens.port()).await;
                assert!(served, "{section} {host}: {address}:{}", listens.port());
            }
            let lines = process.stderr().into_iter();
            let starts = lines.filter(|line| line.text.contains("listening"));
            assert_eq!(starts.count(), 1);
        }
    }
}

#[tokio::test]
async fn a_port_that_another_program_has_on_one_address_is_taken() {
    let redis = Redis::reserve();
    for address in loopback() {
        let taken = TcpListener::bind((address, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        for host in ["::", "localhost"] {
            let worker = Process::jobqueue(&redis)
                .env("APP__JOBQUEUE__HOST", host)
                .env("APP__JOBQUEUE__PORT", &port.to_string())
                .start();
            let listens: SocketAddr = worker.http_addr().await;
            assert_ne!(listens.port(), port, "{host} {address}");
            for address in loopback() {
                let served = is_served(address, listens.port()).await;
                assert!(served, "{host} {address}");
            }
            let server = Process::server(&redis)
                .env("APP__SERVER__HOST", host)
                .env("APP__SERVER__PORT", &port.to_string())
                .start();
            assert_eq!(server.wait_exit(PATIENCE).await.code(), Some(78));
            let advice = "address in use; free it or set server.port";
            assert_eq!(server.count_log(advice), 1, "{:?}", server.stderr());
        }
    }
}
