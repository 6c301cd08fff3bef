//! The users of Redis that the operations page makes may do what it says, and no more.

use super::commands::{
    CANCELLED, CANCELLED_RUNNING, MALFORMED, OPERATIONS, RETRIED, RUN_NOW, examples, recipes, run,
};
use crate::support::{PATIENCE, Process, Redis, SCHEDULED};

#[tokio::test]
async fn the_user_of_the_operations_page_may_do_what_the_programs_do_and_no_more() {
    let redis = Redis::start().await;
    let home = tempfile::tempdir().unwrap();
    let recipes = recipes(OPERATIONS);
    let user = recipes.iter().find(|it| it.contains("'~jobqueue:*'"));
    run("sh", user.unwrap(), &redis, home.path());
    let user = [
        ("APP__CACHE_SERVER__REDIS__JOBQUEUE__USERNAME", "jobqueue"),
        ("APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD", "secret"),
        ("APP__JOBQUEUE__RETRY__INITIAL", "50ms"),
    ];
    let server = Process::server(&redis).envs(&user).start();
    let worker = Process::test_worker(&redis).envs(&user).start();
    redis.run_each_kind(&worker).await;
    server.wait_ready(PATIENCE).await;
    assert_eq!(worker.count_log("NOPERM") + server.count_log("NOPERM"), 0);
    worker.term();
    worker.wait_exit(PATIENCE).await;
    redis.add_job(r#"{"type":"demo:delay_print"}"#).await;
    let now = redis.now_ms().await;
    let member = format!("{now}-0:{}", r#"{"id":"later","type":"demo:delay_print"}"#);
    let due = (now + 3_600_000).to_string();
    redis.cmd(&["ZADD", SCHEDULED, &due, &member]).await;
    for arguments in [
        "pause",
        "cancel --state waiting --all --yes",
        "run later",
        "dead retry --all",
        "cancel --state waiting --all --yes",
        "resume",
        "stats",
    ] {
        let arguments: Vec<_> = arguments.split(' ').collect();
        let jobctl = Process::jobctl(&redis).envs(&user[..2]);
        let status = jobctl.args(&arguments).start().wait_exit(PATIENCE).await;
        assert!(status.success(), "{arguments:?}");
    }
    for forbidden in ["FLUSHALL", "KEYS *", "CONFIG GET dir", "GET other"] {
        let ask = format!("redis-cli ACL DRYRUN jobqueue {forbidden}").replace('*', "'*'");
        let said = run("sh", &ask, &redis, home.path());
        assert!(said.contains("no permission"), "{forbidden}: {said}");
    }
}

#[tokio::test]
async fn the_reader_of_the_operations_page_may_look_and_changes_nothing() {
    let redis = Redis::start().await;
    let home = tempfile::tempdir().unwrap();
    let recipes = recipes(OPERATIONS);
    let reader = recipes.iter().find(|it| it.contains("%R~jobqueue:*"));
    run("sh", reader.unwrap(), &redis, home.path());
    let worker = Process::test_worker(&redis).start();
    examples(&redis, &worker).await;
    let as_reader = "APP__CACHE_SERVER__REDIS__JOBQUEUE__USERNAME=reader \
        APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD=look jobctl";
    let looks = ["stats", "workers", "health", "list waiting", "list done"].map(str::to_owned);
    let shows = ["running", "scheduled", "dead"].map(|state| format!("list {state}"));
    let ids = [RUN_NOW, RETRIED[0], CANCELLED_RUNNING].map(|id| format!("show {id}"));
    for look in looks.iter().chain(&shows).chain(&ids) {
        run("sh", &format!("{as_reader} {look}"), &redis, home.path());
    }
    let before = redis.backlog().await;
    for change in [
        "pause".to_owned(),
        format!("run {RUN_NOW}"),
        format!("cancel {CANCELLED}"),
        format!("cancel {CANCELLED_RUNNING}"),
        format!("dead retry {MALFORMED}"),
        "dead delete --all --yes".to_owned(),
    ] {
        let ended = format!("{as_reader} {change}; test $? = 69");
        let said = run("sh", &ended, &redis, home.path());
        assert!(said.contains("NOPERM"), "{change}: {said}");
    }
    let after = redis.backlog().await;
    let figures = [&before, &after].map(|it| (it.stream, it.scheduled, it.dead));
    assert_eq!(figures[0], figures[1]);
}
