//! Why Redis cannot be used, in words for an operator: which Redis, what is wrong with it, and
//! which setting to look at. The log and `/ready` say the same.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{PATIENCE, Process, Redis, ReservedPort, eventually};

const ADDR: &str = "REDIS_JOBQUEUE_ADDR";
const USERNAME: &str = "APP__CACHE_SERVER__REDIS__JOBQUEUE__USERNAME";
const PASSWORD: &str = "APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD";
const PASSWORD_FILE: &str = "APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD_FILE";
const DB: &str = "APP__CACHE_SERVER__REDIS__JOBQUEUE__DB";
const DIAL_TIMEOUT: &str = "APP__CACHE_SERVER__REDIS__JOBQUEUE__DIAL_TIMEOUT";

/// No sentence for an operator has these: a library's kind of error, or quotes in quotes.
const STRAY: [&str; 8] = [
    "\\\"",
    "\"WRONG",
    "\"NO",
    "os error",
    "ResponseError",
    "Incompatible",
    "Error {",
    "\\n",
];

/// Starts both programs with `env`, and asserts that each says the whole `reason`, in `/ready` and
/// in the log.
async fn is_told<const N: usize>(env: [(&str, &str); N], reason: &str) {
    let redis = Redis::reserve();
    for program in [Process::server, Process::jobqueue] {
        let program = program(&redis).envs(&env).start();
        let line = program.wait_for_log(reason, PATIENCE).await.text;
        let ready = eventually("it is told by /ready", PATIENCE, async || {
            let (status, body) = program.get("/ready").await;
            (status == 503 && body == reason).then_some(body)
        })
        .await;
        for stray in STRAY {
            assert!(!line.contains(stray), "{stray}: {line}");
            assert!(!ready.contains(stray), "{stray}: {ready}");
        }
        assert_eq!(program.get("/health").await.0, 200);
    }
}

/// A server that sends `answer` to everything, or never answers.
async fn stranger(answer: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            match answer {
                Some(answer) => {
                    stream.read_u8().await.ok();
                    stream.write_all(answer.as_bytes()).await.ok();
                }
                None => silent.push(stream),
            }
        }
    });
    addr
}

#[tokio::test]
async fn a_place_without_a_redis_is_named() {
    let nobody = ReservedPort::take();
    let addr = format!("127.0.0.1:{}", nobody.number);
    let refused = format!("cannot reach Redis at {addr}: connection refused");
    let with_secret = format!("redis://alice:s3cret@{addr}/0");
    let refused_url = format!("cannot reach Redis at redis://{addr}/0: connection refused");
    let socket = "unix:///nowhere/redis.sock?pass=s3cret";
    let no_socket = "cannot reach Redis at unix:///nowhere/redis.sock: no such file or directory; \
                     check cache_server.redis.jobqueue.addr (REDIS_JOBQUEUE_ADDR)";
    tokio::join!(
        is_told([(ADDR, &addr)], &refused),
        is_told([(ADDR, &with_secret)], &refused_url),
        is_told([(ADDR, socket)], no_socket),
    );
}

#[tokio::test]
async fn a_name_without_an_address_is_named_with_its_setting() {
    let redis = Redis::reserve();
    let addr = "redis://alice:s3cret@no-such-host.invalid:6379";
    for program in [Process::server, Process::jobqueue] {
        let program = program(&redis).env(ADDR, addr).start();
        let reason = program.wait_for_log("cannot reach Redis", PATIENCE).await;
        let ready = program.wait_not_ready(PATIENCE).await;
        // The words of the system differ between systems.
        for part in [
            "Redis at redis://no-such-host.invalid:6379: its host name cannot be resolved (",
            "); check cache_server.redis.jobqueue.addr (REDIS_JOBQUEUE_ADDR)",
        ] {
            assert!(reason.text.contains(part), "{part}: {reason:?}");
            assert!(ready.contains(part), "{part}: {ready}");
        }
    }
}

#[tokio::test]
async fn what_is_no_redis_is_told_so() {
    let http = stranger(Some("HTTP/1.1 400 Bad Request\r\n\r\n")).await;
    let tls = stranger(Some("\u{15}\u{3}\u{3}\0\u{2}\u{2}\u{46}")).await;
    let silent = stranger(None).await;
    let no_protocol = |addr: &str| {
        format!(
            "cannot reach Redis at {addr}: the reply is not in the protocol of Redis; check \
             cache_server.redis.jobqueue.addr (REDIS_JOBQUEUE_ADDR), and \
             cache_server.redis.jobqueue.tls if the server expects TLS (rediss:// in a URL)"
        )
    };
    let (http_reason, tls_reason) = (no_protocol(&http), no_protocol(&tls));
    let silence = format!("cannot reach Redis at {silent}: no answer within 300ms");
    tokio::join!(
        is_told([(ADDR, &http)], &http_reason),
        is_told([(ADDR, &tls)], &tls_reason),
        is_told([(ADDR, &silent), (DIAL_TIMEOUT, "300ms")], &silence),
    );
}

#[tokio::test]
async fn a_missing_password_is_told_with_its_setting() {
    let redis = Redis::builder().password("s3cret").start().await;
    let reason = |name: &str| {
        format!(
            "Redis at {name} answers NOAUTH (it asks for a password); set \
             cache_server.redis.jobqueue.password \
             (APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD), and \
             cache_server.redis.jobqueue.username for a user of its own"
        )
    };
    let addr = redis.addr();
    is_told([(ADDR, &addr)], &reason(&addr)).await;
}

#[tokio::test]
async fn a_wrong_password_is_told_with_where_it_came_from() {
    let redis = Redis::builder()
        .password("s3cret")
        .directive("user", "bob off >s3cret ~* +@all")
        .start()
        .await;
    let addr = redis.addr();
    let url = format!("redis://alice:typo@{addr}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "typo\n").unwrap();
    let file = file.to_str().unwrap();
    let reason = |name: &str, check: &str| {
        format!(
            "Redis at {name} answers WRONGPASS invalid username-password pair or user is \
             disabled; check {check}"
        )
    };
    let keys = "cache_server.redis.jobqueue.password \
                (APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD) and \
                cache_server.redis.jobqueue.username";
    let in_url = "the user and the password in cache_server.redis.jobqueue.addr \
                  (REDIS_JOBQUEUE_ADDR)";
    let in_file = format!(
        "the password in {file} (cache_server.redis.jobqueue.password_file) and \
         cache_server.redis.jobqueue.username"
    );
    let (setting, in_file) = (reason(&addr, keys), reason(&addr, &in_file));
    let in_url = reason(&format!("redis://{addr}"), in_url);
    tokio::join!(
        is_told([(ADDR, &addr), (PASSWORD, "typo")], &setting),
        is_told(
            [(ADDR, &addr), (USERNAME, "bob"), (PASSWORD, "s3cret")],
            &setting
        ),
        is_told([(ADDR, &url)], &in_url),
        is_told([(ADDR, &addr), (PASSWORD_FILE, file)], &in_file),
    );
}

#[tokio::test]
async fn a_password_file_of_no_use_is_told_with_its_name() {
    let redis = Redis::reserve();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (missing, empty) = (path("missing"), path("empty"));
    std::fs::write(&empty, "\n").unwrap();
    let addr = redis.addr();
    let reason = |file: &str, why: &str| {
        format!(
            "cannot use Redis at {addr}: the password file {file} is of no use: {why}; see \
             cache_server.redis.jobqueue.password_file"
        )
    };
    let no_file = reason(&missing, "no such file or directory");
    let no_text = reason(&empty, "it is empty");
    tokio::join!(
        is_told([(ADDR, &addr), (PASSWORD_FILE, &missing)], &no_file),
        is_told([(ADDR, &addr), (PASSWORD_FILE, &empty)], &no_text),
    );
}

#[tokio::test]
async fn what_redis_refuses_is_told_in_its_own_words() {
    let redis = Redis::start().await;
    let renamed = Redis::builder()
        .directive("rename-command", "HELLO \"\"")
        .start()
        .await;
    let alone = Redis::builder()
        .directive("min-replicas-to-write", "1")
        .start()
        .await;
    let addr = redis.addr();
    let [renamed_addr, alone_addr] = [&renamed, &alone].map(Redis::addr);
    let no_db = |place: &str, setting: &str| {
        format!(
            "Redis at {place} answers ERR DB index is out of range; the database comes from \
             {setting}"
        )
    };
    let url = format!("redis://{addr}/99");
    let by_url = no_db(
        &url,
        "cache_server.redis.jobqueue.addr (REDIS_JOBQUEUE_ADDR)",
    );
    let by_key = no_db(&addr, "cache_server.redis.jobqueue.db");
    let no_hello = format!(
        "Redis at {} answers ERR unknown command 'HELLO'; the queue needs a Redis 7.0 or later \
         whose HELLO is not renamed",
        renamed.addr()
    );
    let is_alone = format!(
        "Redis at {} answers NOREPLICAS Not enough good replicas to write",
        alone.addr()
    );
    tokio::join!(
        is_told([(ADDR, &url)], &by_url),
        is_told([(ADDR, &addr), (DB, "99")], &by_key),
        is_told([(ADDR, &renamed_addr), (PASSWORD, "s3cret")], &no_hello),
        is_told([(ADDR, &alone_addr)], &is_alone),
    );
}

#[tokio::test]
async fn a_server_that_is_too_old_is_told_so() {
    let unknown = "-ERR unknown command `HELLO`, with args beginning with: `3` \r\n";
    let no_protocol = "-NOPROTO unsupported protocol version\r\n";
    let [old, other] = [unknown, no_protocol].map(|answer| {
        // This has one answer for each command that the client sends together with the first one.
        let answers: &str = answer.repeat(8).leak();
        stranger(Some(answers))
    });
    let (old, other) = (old.await, other.await);
    let advice = "; the queue needs a Redis 7.0 or later whose HELLO is not renamed";
    let is_old = format!("cannot use Redis at {old}: it does not know HELLO{advice}");
    let is_other = format!("Redis at {other} answers NOPROTO unsupported protocol version{advice}");
    tokio::join!(
        is_told([(ADDR, &old)], &is_old),
        is_told([(ADDR, &other)], &is_other),
    );
}

#[tokio::test]
async fn who_has_asked_for_tls_is_not_advised_to() {
    let addr = stranger(Some("")).await;
    let redis = Redis::reserve();
    for scheme in ["rediss", "valkeys"] {
        let addr = format!("{scheme}://{addr}");
        let program = Process::server(&redis).env(ADDR, &addr).start();
        let line = program.wait_for_log("what=connection", PATIENCE).await.text;
        assert!(line.contains(&addr), "{line}");
        assert!(!line.contains("expects TLS"), "{line}");
    }
}

#[tokio::test]
async fn a_key_of_a_wrong_type_is_named() {
    for key in ["jobqueue:{default}:scheduled", "jobqueue:{default}:leases"] {
        let redis = Redis::start().await;
        redis.cmd(&["SET", key, "x"]).await;
        let reason = format!(
            "Redis at {} answers WRONGTYPE {key} is a string, expected a zset",
            redis.addr()
        );
        let worker = Process::jobqueue(&redis).start();
        worker.wait_for_log(&reason, PATIENCE).await;
        let ready = worker.wait_not_ready(PATIENCE).await;
        assert_eq!(ready, reason);
    }
}

#[tokio::test]
async fn a_lost_and_found_redis_is_named_at_both_ends() {
    let redis = Redis::start().await;
    let addr = redis.addr();
    for program in [Process::server, Process::jobqueue] {
        let program = program(&redis).start();
        program.wait_ready(PATIENCE).await;
        redis.kill();
        let line = program.wait_for_log("redis is unavailable", PATIENCE).await;
        let named = format!("cannot reach Redis at {addr}: ");
        assert!(line.text.contains(&named), "{line:?}");
        let ready = program.wait_not_ready(PATIENCE).await;
        assert!(ready.contains(&named), "{ready}");
        redis.up_empty().await;
        let line = program.wait_for_log("available again", PATIENCE).await;
        assert!(line.text.contains(&addr), "{line:?}");
        program.wait_ready(Duration::from_secs(3)).await;
    }
}

#[tokio::test]
async fn a_permission_that_is_missing_is_told_with_the_redis() {
    let redis = Redis::start().await;
    let program = Process::server(&redis).start();
    program.wait_ready(PATIENCE).await;
    redis.cmd(&["ACL", "SETUSER", "default", "-xadd"]).await;
    let named = format!("Redis at {} answers NOPERM ", redis.addr());
    let ready = eventually("/ready tells it", PATIENCE, async || {
        let (status, body) = program.get("/ready").await;
        (status == 503).then_some(body)
    })
    .await;
    assert!(ready.contains(&named), "{ready}");
    program.wait_for_log(&named, PATIENCE).await;
}
