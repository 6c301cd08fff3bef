//! The running programs print and answer no secret, whatever fails and however much is logged. The
//! password is a canary, and every line and every answer is searched for it.

use std::path::Path;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{PATIENCE, Process, Redis, TestApp, eventually};

const CANARY: &str = "c4n4ry";
/// It has characters that a URL writes in another way.
const PASSWORD: &str = "c4n4ry/ #1";
const IN_URL: &str = "c4n4ry%2F%20%231";
const ADDR: &str = "REDIS_JOBQUEUE_ADDR";
const PASSWORD_KEY: &str = "APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD";
const FILE_KEY: &str = "APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD_FILE";

/// Searches a program's output and the answers of its API and of `/ready`, after it has logged
/// `part`.
async fn keeps_it<const N: usize>(env: [(&str, &str); N], part: &str) {
    let nobody = Redis::reserve();
    let server = Process::server(&nobody)
        .env("RUST_LOG", "trace")
        .envs(&env)
        .start();
    let worker = Process::jobqueue(&nobody)
        .env("RUST_LOG", "trace")
        .envs(&env)
        .start();
    for program in [&server, &worker] {
        program.wait_for_log(part, PATIENCE).await;
        let (_, ready) = program.get("/ready").await;
        assert!(!ready.contains(CANARY), "{ready}");
    }
    let app = TestApp::around(nobody, server).await;
    let (_, body, headers) = app.register(json!({"delay": "0s"})).await;
    let answer = format!("{body} {headers:?}");
    assert!(!answer.contains(CANARY), "{answer}");
    for program in [&app.server, &worker] {
        program.term();
        program.wait_exit(PATIENCE).await;
        let lines = [program.stderr(), program.stdout()].concat();
        assert!(lines.len() >= 3, "nothing to search: {lines:?}");
        for line in lines {
            assert!(!line.text.contains(CANARY), "{line:?}");
        }
    }
}

/// The ways to give a password, for the Redis at `addr`.
struct Ways {
    addr: String,
    url: String,
    _dir: tempfile::TempDir,
    file: String,
}

impl Ways {
    fn to(addr: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, PASSWORD).unwrap();
        Self {
            addr: addr.to_owned(),
            url: format!("redis://default:{IN_URL}@{addr}"),
            file: file.to_str().unwrap().to_owned(),
            _dir: dir,
        }
    }

    async fn keep_it(&self, part: &str) {
        tokio::join!(
            keeps_it([(ADDR, &self.addr), (PASSWORD_KEY, PASSWORD)], part),
            keeps_it([(ADDR, &self.url)], part),
            keeps_it([(ADDR, &self.addr), (FILE_KEY, &self.file)], part),
        );
    }
}

#[tokio::test]
async fn a_good_password_is_printed_nowhere() {
    let redis = Redis::builder().password(PASSWORD).start().await;
    Ways::to(&redis.addr()).keep_it("connected to redis").await;
}

#[tokio::test]
async fn a_wrong_password_is_printed_nowhere() {
    let redis = Redis::builder().password("another").start().await;
    Ways::to(&redis.addr()).keep_it("WRONGPASS").await;
}

#[tokio::test]
async fn a_redis_that_repeats_what_it_does_not_know_tells_no_password() {
    let redis = Redis::builder()
        .directive("rename-command", "HELLO \"\"")
        .start()
        .await;
    Ways::to(&redis.addr()).keep_it("unknown command").await;
}

#[tokio::test]
async fn a_proxy_that_repeats_what_it_is_sent_tells_no_password() {
    for code in ["ERR", "WRONGPASS", "PROXY"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut bytes = vec![0; 4096];
                let length = stream.read(&mut bytes).await.unwrap_or(0);
                let sent = String::from_utf8_lossy(&bytes[..length]);
                let sent = sent.replace(|c: char| c.is_control(), " ");
                // Each of the commands by which a client introduces itself gets this answer.
                let answer = format!("-{code} cannot understand {sent}\r\n").repeat(3);
                stream.write_all(answer.as_bytes()).await.ok();
                // The client has read the answer when it closes the connection.
                drop(stream.read(&mut bytes).await);
            }
        });
        Ways::to(&addr).keep_it(&format!("answers {code}")).await;
    }
}

#[tokio::test]
async fn a_redis_that_cannot_be_reached_tells_no_password() {
    let nobody = Redis::reserve();
    let plain = Redis::start().await;
    let no_name = format!("redis://me:{IN_URL}@no-such-host.invalid:6379/0");
    let no_socket = format!("unix:///nowhere/redis.sock?user=me&pass={IN_URL}");
    let no_tls = format!("rediss://me:{IN_URL}@{}", plain.addr());
    let ways = Ways::to(&nobody.addr());
    tokio::join!(
        ways.keep_it("connection refused"),
        keeps_it([(ADDR, &no_name)], "cannot be resolved"),
        keeps_it([(ADDR, &no_socket)], "no such file"),
        keeps_it([(ADDR, &no_tls)], "does not speak TLS"),
    );
}

#[tokio::test]
async fn a_password_file_of_no_use_is_not_shown() {
    let redis = Redis::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let zero = file("zero", b"c4n4ry\0");
    let latin = file("latin", b"c4n4ry\xff");
    let large = file("large", CANARY.repeat(20_000).as_bytes());
    for path in [&zero, &latin, &large] {
        assert!(Path::new(path).exists());
        let env = [(ADDR, redis.addr()), (FILE_KEY, path.clone())];
        let env = env.each_ref().map(|(key, value)| (*key, value.as_str()));
        keeps_it(env, "is of no use").await;
    }
}

#[tokio::test]
async fn a_password_that_is_refused_later_is_printed_nowhere() {
    let redis = Redis::builder().password(PASSWORD).start().await;
    let mut operator = redis.connect().await.unwrap();
    let worker = Process::jobqueue(&redis).env("RUST_LOG", "trace").start();
    worker.wait_ready(PATIENCE).await;
    for command in [
        "CONFIG SET requirepass another",
        "CLIENT KILL TYPE normal SKIPME yes",
    ] {
        let mut words = command.split(' ');
        let mut cmd = redis::cmd(words.next().unwrap());
        cmd.arg(words.collect::<Vec<_>>());
        cmd.query_async::<redis::Value>(&mut operator)
            .await
            .unwrap();
    }
    worker.wait_for_log("WRONGPASS", PATIENCE).await;
    let reason = eventually("/ready tells it", PATIENCE, async || {
        let (_, body) = worker.get("/ready").await;
        body.contains("WRONGPASS").then_some(body)
    })
    .await;
    assert!(!reason.contains(CANARY), "{reason}");
    assert_eq!(worker.count_log(CANARY), 0);
}
