//! TLS that fails. Both programs say in one line what is wrong, and go on by themselves when it is
//! mended.

use std::path::PathBuf;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

use crate::support::{PATIENCE, Process, Redis, ReservedPort, within};

/// The programs try every five seconds, so they go on within this time.
const NEXT_TRY: Duration = Duration::from_secs(7);

/// A Redis that uses TLS on a port of its own, and a CA that the programs trust.
struct Tls {
    redis: Redis,
    port: ReservedPort,
    ca: Issuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

impl Tls {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let port = ReservedPort::take();
        let name = format!("CA of {}", port.number);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        std::fs::write(dir.path().join("ca.pem"), cert.pem()).unwrap();
        let redis = Redis::start().await;
        let ca = Issuer::new(params, key);
        let tls = Self {
            redis,
            port,
            ca,
            dir,
        };
        tls.present("127.0.0.1", 4096).await;
        tls.set(&[
            "tls-ca-cert-file",
            tls.path("ca.pem").to_str().unwrap(),
            "tls-auth-clients",
            "no",
        ])
        .await;
        tls.set(&["tls-port", &tls.port.number.to_string()]).await;
        tls
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn set(&self, settings: &[&str]) {
        let command = [&["CONFIG", "SET"], settings].concat();
        self.redis.cmd(&command).await;
    }

    /// Makes the server present a certificate for `name` that is valid until `year`.
    async fn present(&self, name: &str, year: i32) {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.ca).unwrap();
        let (cert_file, key_file) = (self.path("cert.pem"), self.path("key.pem"));
        std::fs::write(&cert_file, cert.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        let files = [cert_file, key_file].map(|file| file.to_str().unwrap().to_owned());
        self.set(&["tls-cert-file", &files[0], "tls-key-file", &files[1]])
            .await;
    }

    fn start_both(&self, port: u16, trusted: &str) -> [Process; 2] {
        [Process::jobqueue, Process::server].map(|program| {
            program(&self.redis)
                .redis_addr(format!("rediss://127.0.0.1:{port}"))
                .env("SSL_CERT_FILE", self.path(trusted).to_str().unwrap())
                .env_remove("SSL_CERT_DIR")
                .start()
        })
    }

    fn start_trusting(&self) -> [Process; 2] {
        self.start_both(self.port.number, "ca.pem")
    }

    async fn a_job_runs(&self, worker: &Process) {
        self.redis.add_job(r#"{"type":"demo:delay_print"}"#).await;
        worker.wait_for_lines(1, PATIENCE).await;
    }
}

/// Asserts that both programs log `what` once while they try twice, and do not report an outage.
async fn is_said(processes: &[Process; 2], what: &str) {
    for process in processes {
        process.wait_for_log(what, PATIENCE).await;
        let reason = process.wait_not_ready(PATIENCE).await;
        assert!(reason.contains(what), "{reason}");
    }
    within(Duration::from_secs(6), async || None::<()>).await;
    for process in processes {
        assert_eq!(process.count_log("TLS: "), 1);
        assert_eq!(process.count_log("waiting for it"), 0);
        let line = process.wait_for_log(what, PATIENCE).await.text;
        assert!(line.contains("ERROR") && line.len() < 600, "{line}");
    }
}

async fn goes_on(tls: &Tls, processes: &[Process; 2]) {
    for process in processes {
        process.wait_ready(NEXT_TRY).await;
        process.wait_for_log("available again", PATIENCE).await;
    }
    tls.a_job_runs(&processes[0]).await;
}

#[tokio::test]
async fn a_good_certificate_is_no_trouble() {
    let tls = Tls::start().await;
    let processes = tls.start_trusting();
    for process in &processes {
        process.wait_ready(PATIENCE).await;
    }
    tls.a_job_runs(&processes[0]).await;
}

#[tokio::test]
async fn an_expired_certificate_is_named_and_waited_for() {
    let tls = Tls::start().await;
    tls.present("127.0.0.1", 2001).await;
    let processes = tls.start_trusting();
    is_said(&processes, "certificate expired").await;
    tls.present("127.0.0.1", 4096).await;
    goes_on(&tls, &processes).await;
}

#[tokio::test]
async fn a_certificate_of_another_name_is_named_and_waited_for() {
    let tls = Tls::start().await;
    tls.present("redis.example", 4096).await;
    let processes = tls.start_trusting();
    is_said(&processes, "certificate not valid for name").await;
    tls.present("127.0.0.1", 4096).await;
    goes_on(&tls, &processes).await;
}

#[tokio::test]
async fn an_unknown_ca_is_named_and_waited_for() {
    let tls = Tls::start().await;
    let another = Tls::start().await;
    std::fs::copy(another.path("ca.pem"), tls.path("trusted.pem")).unwrap();
    let processes = tls.start_both(tls.port.number, "trusted.pem");
    is_said(&processes, "UnknownIssuer").await;
    std::fs::copy(tls.path("ca.pem"), tls.path("trusted.pem")).unwrap();
    goes_on(&tls, &processes).await;
}

#[tokio::test]
async fn a_server_without_tls_is_named_and_waited_for() {
    let tls = Tls::start().await;
    let plain = tls.redis.port();
    let processes = tls.start_both(plain, "ca.pem");
    is_said(&processes, "does not speak TLS").await;
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_is_named_and_waited_for() {
    // The two versions of TLS refuse at different moments.
    let asks = async |version| {
        let tls = Tls::start().await;
        tls.set(&["tls-auth-clients", "yes", "tls-protocols", version])
            .await;
        let processes = tls.start_trusting();
        is_said(&processes, "refuses a client without a certificate").await;
        tls.set(&["tls-auth-clients", "no"]).await;
        goes_on(&tls, &processes).await;
    };
    tokio::join!(asks("TLSv1.3"), asks("TLSv1.2"));
}

#[tokio::test]
async fn a_client_without_tls_is_told_of_the_setting() {
    let tls = Tls::start().await;
    for program in [Process::jobqueue, Process::server] {
        let program = program(&tls.redis)
            .redis_addr(format!("127.0.0.1:{}", tls.port.number))
            .start();
        let says = "see cache_server.redis.jobqueue.tls if the server expects TLS";
        let line = program.wait_for_log("cannot reach Redis", PATIENCE).await;
        assert!(line.text.contains(says), "{line:?}");
        let reason = program.wait_not_ready(PATIENCE).await;
        assert!(reason.contains(says), "{reason}");
    }
}
