//! A password or a permission is missing, from the start or suddenly. The programs say once what
//! they lack. They try again every five seconds, and go on when they have it.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use reqwest::StatusCode;
use serde_json::json;

use crate::support::{
    FaultProxy, PATIENCE, Process, ProcessBuilder, Redis, SCHEDULED, STREAM, TestApp, test_job,
};

/// The longest time from the operator's repair until all is well.
const MENDED: Duration = Duration::from_secs(6);
/// A worker's fetcher, promoter and heartbeat each try by themselves the commands that they need.
const PARTS: u64 = 3;
const PASSWORD: &str = "APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD";

/// A Redis, a program behind a proxy that counts its connections, and an operator who connected
/// before the mistake.
struct Scene {
    redis: Redis,
    proxy: FaultProxy,
    operator: MultiplexedConnection,
    program: Option<Process>,
    mark: usize,
}

impl Scene {
    async fn new() -> Self {
        let redis = Redis::start().await;
        Self {
            proxy: redis.proxy().await,
            operator: redis.connect().await.unwrap(),
            redis,
            program: None,
            mark: 0,
        }
    }

    async fn operator(&mut self, command: &str) {
        let mut words = command.split(' ');
        let mut cmd = redis::cmd(words.next().unwrap());
        cmd.arg(words.collect::<Vec<_>>());
        let reply: redis::Value = cmd.query_async(&mut self.operator).await.unwrap();
        drop(reply);
    }

    fn start(&mut self, program: fn(&Redis) -> ProcessBuilder, env: &[(&str, &str)]) {
        let program = program(&self.redis).redis_addr(self.proxy.addr());
        self.program = Some(program.envs(env).start());
    }

    fn program(&self) -> &Process {
        self.program.as_ref().expect("started")
    }

    /// Starts the program and waits until it is ready. Only later log lines are looked at.
    async fn started_and_ready(
        &mut self,
        program: fn(&Redis) -> ProcessBuilder,
        env: &[(&str, &str)],
    ) {
        self.start(program, env);
        self.program().wait_ready(PATIENCE).await;
        self.mark = self.program().log_mark();
    }

    /// Asserts that the program waits, and that it goes on when the operator has run `mend`.
    async fn waits_until(&mut self, says: &[&str], mend: &str) {
        // In this time one attempt is made, and no further line is logged.
        let time = Duration::from_millis(4800);
        self.waits_for(time, says, mend).await;
    }

    /// Does the same for a given time. The program may make one attempt in 5 s and log one line in
    /// 30 s. An attempt is a connection, or a command of each part on an existing connection.
    async fn waits_for(&mut self, time: Duration, says: &[&str], mend: &str) {
        let complaints = |program: &Process, mark| {
            let mut lines = program.stderr().split_off(mark);
            lines.retain(|line| !line.text.contains(" INFO "));
            lines
        };
        let program = self.program();
        program
            .wait_for_log_since(self.mark, says[0], PATIENCE)
            .await;
        let reason = program.wait_not_ready(PATIENCE).await;
        let (accepted, since) = (self.proxy.stats().connections_accepted, program.log_mark());
        let refused = refusals(&mut self.operator).await;
        // This gives the program time for attempts and lines that it must not make.
        tokio::time::sleep(time).await;
        let most = time.as_secs() / 5 + 1;
        let attempts = self.proxy.stats().connections_accepted - accepted;
        assert!(attempts <= most, "{attempts} attempts in {time:?}");
        for (command, count) in refusals(&mut self.operator).await {
            let attempts = count - refused.get(&command).unwrap_or(&0);
            assert!(
                attempts <= PARTS * most,
                "{attempts} x {command} in {time:?}"
            );
        }
        let program = self.program();
        let further = complaints(program, since);
        let most = usize::try_from(time.as_secs() / 30).unwrap();
        assert!(further.len() <= most, "in {time:?}: {further:#?}");
        let lines = complaints(program, self.mark);
        assert_eq!(lines.len(), 1 + further.len(), "{lines:#?}");
        for part in says {
            assert!(reason.contains(part), "{part}: {reason}");
            for line in &lines {
                assert!(line.text.contains(part), "{part}: {line:?}");
            }
        }
        assert_eq!(program.get("/health").await.0, StatusCode::OK);

        self.operator(mend).await;
        let program = self.program();
        program.wait_ready(MENDED).await;
        program
            .wait_for_log_since(self.mark, "redis is available again", PATIENCE)
            .await;
    }
}

/// How many times Redis refused each command or let it fail.
async fn refusals(operator: &mut MultiplexedConnection) -> BTreeMap<String, u64> {
    let mut info = redis::cmd("INFO");
    info.arg("commandstats");
    let stats: String = info.query_async(operator).await.unwrap();
    let of_command = |line: &str| {
        let (command, fields) = line.strip_prefix("cmdstat_")?.split_once(':')?;
        let fields = fields.split(',').filter_map(|field| field.split_once('='));
        let refusals = fields.filter(|(name, _)| ["rejected_calls", "failed_calls"].contains(name));
        let count = refusals
            .map(|(_, count)| count.parse::<u64>().unwrap())
            .sum();
        Some((command.to_owned(), count))
    };
    stats.lines().filter_map(of_command).collect()
}

#[tokio::test]
#[ignore = "long: a minute without a password or a permission"]
async fn what_is_missing_is_named_twice_a_minute_at_most() {
    let minute = Duration::from_secs(65);
    let (mut server, mut worker) = (Scene::new().await, Scene::new().await);
    let mut late = Scene::new().await;
    for scene in [&mut server, &mut worker] {
        scene.operator("CONFIG SET requirepass secret").await;
    }
    server.start(Process::server, &[]);
    worker.start(Process::jobqueue, &[(PASSWORD, "typo")]);
    late.started_and_ready(Process::jobqueue, &[]).await;
    late.operator("ACL SETUSER default -xreadgroup").await;
    tokio::join!(
        server.waits_for(minute, &["NOAUTH"], "ACL SETUSER default nopass"),
        worker.waits_for(minute, &["WRONGPASS"], "CONFIG SET requirepass typo"),
        late.waits_for(
            minute,
            &["NOPERM", "xreadgroup"],
            "ACL SETUSER default +xreadgroup"
        ),
    );
}

#[tokio::test]
async fn a_missing_password_at_the_start_is_waited_for() {
    let (mut server, mut worker) = (Scene::new().await, Scene::new().await);
    for scene in [&mut server, &mut worker] {
        scene.operator("CONFIG SET requirepass secret").await;
    }
    server.start(Process::server, &[]);
    worker.start(Process::jobqueue, &[]);
    let mend = "ACL SETUSER default nopass";
    tokio::join!(
        server.waits_until(&["NOAUTH"], mend),
        worker.waits_until(&["NOAUTH"], mend)
    );
}

#[tokio::test]
async fn a_wrong_password_at_the_start_is_waited_for() {
    let (mut server, mut worker) = (Scene::new().await, Scene::new().await);
    for scene in [&mut server, &mut worker] {
        scene.operator("CONFIG SET requirepass secret").await;
    }
    let env = [(PASSWORD, "typo")];
    server.start(Process::server, &env);
    worker.start(Process::jobqueue, &env);
    let mend = "CONFIG SET requirepass typo";
    tokio::join!(
        server.waits_until(&["WRONGPASS"], mend),
        worker.waits_until(&["WRONGPASS"], mend)
    );
    for scene in [&server, &worker] {
        assert_eq!(
            scene.program().count_log("typo"),
            0,
            "a password is a secret"
        );
    }
}

/// Changes the password of Redis while two programs use it. They know `password`, if there is one.
async fn locked_out(password: Option<&str>, says: &str, mend: &str) {
    let (mut server, mut worker) = (Scene::new().await, Scene::new().await);
    let env: Vec<_> = password
        .map(|known| (PASSWORD, known))
        .into_iter()
        .collect();
    if let Some(known) = password {
        let lock = format!("CONFIG SET requirepass {known}");
        server.operator(&lock).await;
        worker.operator(&lock).await;
    }
    server.started_and_ready(Process::server, &env).await;
    worker.started_and_ready(Process::jobqueue, &env).await;
    for scene in [&mut server, &mut worker] {
        scene.operator("CONFIG SET requirepass secret").await;
        scene.operator("CLIENT KILL TYPE normal SKIPME yes").await;
    }
    for scene in [&mut server, &mut worker] {
        // At first it is an outage like any other, which has a line of its own.
        let program = scene.program();
        program
            .wait_for_log_since(scene.mark, "redis is unavailable", PATIENCE)
            .await;
        program.wait_for_log_since(scene.mark, says, PATIENCE).await;
        // From here on, only the line that names the cause and the later lines are looked at.
        scene.mark += 1;
    }
    let says = [says];
    tokio::join!(
        server.waits_until(&says, mend),
        worker.waits_until(&says, mend)
    );
}

#[tokio::test]
async fn a_password_that_is_set_while_they_run_is_waited_for() {
    locked_out(None, "NOAUTH", "ACL SETUSER default nopass").await;
}

#[tokio::test]
async fn a_password_that_is_changed_while_they_run_is_waited_for() {
    locked_out(Some("old"), "WRONGPASS", "CONFIG SET requirepass old").await;
}

#[tokio::test]
async fn a_permission_that_a_worker_lacks_is_named_and_waited_for() {
    // A worker that runs names its scripts by their hash, and does not need EVAL.
    let mut starting = Scene::new().await;
    starting.operator("ACL SETUSER default -eval").await;
    starting.start(Process::jobqueue, &[]);
    starting
        .waits_until(&["NOPERM", "eval"], "ACL SETUSER default +eval")
        .await;
    let lacks = async |command| {
        let (mut early, mut late) = (Scene::new().await, Scene::new().await);
        late.started_and_ready(Process::jobqueue, &[]).await;
        for scene in [&mut early, &mut late] {
            scene
                .operator(&format!("ACL SETUSER default -{command}"))
                .await;
        }
        early.start(Process::jobqueue, &[]);
        let (says, mend) = (
            ["NOPERM", command],
            format!("ACL SETUSER default +{command}"),
        );
        tokio::join!(
            early.waits_until(&says, &mend),
            late.waits_until(&says, &mend)
        );
        for scene in [early, late] {
            scene.redis.add_job(r#"{"type":"demo:delay_print"}"#).await;
            scene.program().wait_for_lines(1, PATIENCE).await;
            scene.redis.drained(PATIENCE).await;
        }
    };
    tokio::join!(lacks("xreadgroup"), lacks("evalsha"), lacks("xclaim"));
}

#[tokio::test]
async fn a_permission_that_the_server_lacks_is_named_and_waited_for() {
    let (mut early, mut late) = (Scene::new().await, Scene::new().await);
    late.started_and_ready(Process::server, &[]).await;
    for scene in [&mut early, &mut late] {
        scene.operator("ACL SETUSER default -xadd").await;
    }
    early.start(Process::server, &[]);
    // A server notices a missing permission when it is asked for its readiness or for a job.
    late.program().get("/ready").await;
    let (says, mend) = (["NOPERM", "xadd"], "ACL SETUSER default +xadd");
    tokio::join!(
        early.waits_until(&says, mend),
        late.waits_until(&says, mend)
    );
}

/// Takes away a command that is needed to move the job which `add` appends or schedules. Checks
/// that no part of the move has happened while the command is refused, and that the whole move
/// happens afterwards.
async fn moves_nothing_without(command: &str, add: &[&str], refused: (u64, u64, u64, u64)) {
    let redis = Redis::start().await;
    let permit = async |sign| {
        redis
            .cmd(&["ACL", "SETUSER", "default", &format!("{sign}{command}")])
            .await;
    };
    permit("-").await;
    redis.cmd(add).await;
    // The worker starts last, so that its first refusal is the refusal of the move.
    let worker = Process::test_worker(&redis).start();
    let line = worker.wait_for_log("NOPERM", PATIENCE).await.text;
    let named = format!("run {} on", command.to_lowercase());
    assert!(line.contains(&named), "{line}");
    let now = redis.backlog().await;
    let now = (now.stream, now.pending, now.scheduled, now.dead);
    assert_eq!(now, refused, "{command} for {add:?}");

    permit("+").await;
    redis.drained(MENDED + Duration::from_secs(2)).await;
    let done = worker.count("end 1") as u64 + redis.backlog().await.dead;
    assert_eq!(done, 1, "{command} for {add:?}");
    assert_eq!(worker.count_log("NOPERM"), 1);
}

#[tokio::test]
async fn a_move_that_is_not_permitted_as_a_whole_does_not_happen_at_all() {
    let (stays, parked) = ((1, 1, 0, 0), (0, 0, 1, 0));
    let [done, retried, buried] = ["sleep", "fail", "malformed"].map(|kind| test_job(kind, 1, 1));
    let [done, retried, buried] =
        [&done, &retried, &buried].map(|job| ["XADD", STREAM, "*", "job", job]);
    let due = [
        "ZADD",
        SCHEDULED,
        "1",
        &format!("1-0:{}", test_job("sleep", 1, 1)),
    ];
    tokio::join!(
        moves_nothing_without("XACK", &done, stays),
        moves_nothing_without("XDEL", &done, stays),
        moves_nothing_without("XACK", &retried, stays),
        moves_nothing_without("XDEL", &retried, stays),
        moves_nothing_without("XACK", &buried, stays),
        moves_nothing_without("XDEL", &buried, stays),
        moves_nothing_without("ZREMRANGEBYRANK", &due, parked),
    );
}

/// Runs one job of each kind as a user who has only these permissions.
async fn works_with(permissions: &str) {
    let redis = Redis::start().await;
    let user = format!("ACL SETUSER worker on >secret ~jobqueue:* {permissions}");
    redis.cmd(&user.split(' ').collect::<Vec<_>>()).await;
    let worker = Process::test_worker(&redis)
        .env("APP__CACHE_SERVER__REDIS__JOBQUEUE__USERNAME", "worker")
        .env(PASSWORD, "secret")
        .env("APP__JOBQUEUE__RETRY__INITIAL", "50ms")
        .start();
    redis.run_each_kind(&worker).await;
    worker.term();
    assert_eq!(worker.wait_exit(PATIENCE).await.code(), Some(0));
    assert_eq!(worker.count_log("NOPERM"), 0);
}

#[tokio::test]
async fn a_worker_needs_the_permissions_that_the_readme_names_and_no_more() {
    works_with("+@read +@write +@scripting +hello +time").await;
    works_with("+@read +@write +@scripting +hello +time +select +client +info").await;
}

#[tokio::test]
async fn a_registration_that_is_not_permitted_is_a_503() {
    let app = TestApp::start().await;
    app.redis.cmd(&["ACL", "SETUSER", "default", "-xadd"]).await;
    let (status, body, headers) = app.register(json!({})).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    assert!(headers.contains_key("retry-after"));
    assert_eq!(app.redis.xlen().await, 0);
}
