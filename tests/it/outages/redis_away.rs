//! Redis is away: it is stopped, killed, not started yet, or loading its data. The programs go on
//! running and resume their work by themselves. Nothing is lost or run twice.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::json;

use crate::support::{
    FaultProxy, LEASE, Load, PATIENCE, Process, Redis, TestApp, eventually, test_job,
};

/// The time from Redis' first answer to the first job's line.
const RESUMED: Duration = Duration::from_millis(1500);

/// Adds a job, and asserts that it is printed within `bound` after `since`.
async fn resumes(redis: &Redis, worker: &Process, since: Instant, bound: Duration) {
    redis.add_job(&test_job("sleep", 77, 0)).await;
    let line = worker
        .wait_for_line(|line| line == "end 77", PATIENCE)
        .await;
    assert!(
        line.at - since <= bound,
        "resumed after {:?}",
        line.at - since
    );
}

/// Starts both programs, and starts Redis `by` later.
async fn start_before_redis(by: Duration) {
    let app = TestApp::with(Redis::reserve(), &[]).await;
    let worker = app.worker().start();
    // This is the length of the fault. It waits for no event.
    tokio::time::sleep(by).await;
    for process in [&app.server, &worker] {
        let reason = process.wait_not_ready(PATIENCE).await;
        assert!(!reason.is_empty());
        assert_eq!(
            process.get("/health").await,
            (StatusCode::OK, "OK".to_owned())
        );
    }
    let (status, body, headers) = app.register(json!({"delay": "0s"})).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let detail = "job queue service is unavailable: Redis is not connected";
    assert_eq!(body["detail"], detail);
    assert_eq!(headers["content-type"], "application/problem+json");
    assert!(headers.contains_key("retry-after"));

    app.redis.up().await;
    let answers = Instant::now();
    eventually("a job is accepted", PATIENCE, async || {
        let reply = app
            .register(json!({"delay": "0s", "message": "first"}))
            .await;
        (reply.0 == StatusCode::CREATED).then_some(())
    })
    .await;
    let line = worker
        .wait_for_line(|line| line.ends_with("] first"), PATIENCE)
        .await;
    assert!(line.at - answers <= RESUMED, "{:?}", line.at - answers);
    app.drained(PATIENCE).await;
}

#[tokio::test]
async fn both_programs_start_without_redis_and_work_as_soon_as_it_answers() {
    tokio::join!(
        start_before_redis(Duration::ZERO),
        // This is long enough that the pauses between attempts no longer grow.
        start_before_redis(Duration::from_secs(4)),
    );
}

#[tokio::test]
#[ignore = "long: three minutes without Redis from the start"]
async fn both_programs_wait_minutes_for_redis_and_work_as_soon_as_it_answers() {
    start_before_redis(Duration::from_secs(180)).await;
}

/// Stops Redis for `outage` under load, and starts it again.
async fn outage_under_load(outage: Duration) {
    let app = TestApp::with(Redis::durable().await, &[]).await;
    app.server.wait_ready(PATIENCE).await;
    let workers = [
        app.worker().envs(&[LEASE]).start(),
        app.worker().envs(&[LEASE]).start(),
    ];
    let now = Load::start(&app, Duration::from_millis(5), "0s");
    eventually("there is load", PATIENCE, async || {
        (now.sent() > 100).then_some(())
    })
    .await;

    app.redis.stop().await;
    // This is the length of the fault. It waits for no event.
    tokio::time::sleep(outage).await;
    app.redis.up().await;
    let answers = Instant::now();
    let line = eventually("a job is printed again", PATIENCE, async || {
        let mut lines = workers.iter().flat_map(|worker| worker.stdout());
        lines.find(|line| line.at > answers)
    })
    .await;
    assert!(line.at - answers <= RESUMED, "{:?}", line.at - answers);

    let sent = now.sent();
    eventually("load goes on", PATIENCE, async || {
        (now.sent() > sent + 100).then_some(())
    })
    .await;
    let answered = now.stop().await;
    assert!(answered.accepted.len() > 100, "{answered:?}");
    app.drained(PATIENCE).await;
    answered.each_printed_once(&[&workers[0], &workers[1]]);
}

#[tokio::test]
async fn an_outage_of_one_second_under_load_loses_nothing() {
    outage_under_load(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn an_outage_of_ten_seconds_under_load_loses_nothing() {
    outage_under_load(Duration::from_secs(10)).await;
}

#[tokio::test]
#[ignore = "long: an outage of a minute"]
async fn an_outage_of_a_minute_under_load_loses_nothing() {
    outage_under_load(Duration::from_secs(60)).await;
}

#[tokio::test]
async fn jobs_that_finish_during_an_outage_are_settled_and_not_run_again() {
    let redis = Redis::durable().await;
    let env = [("APP__JOBQUEUE__LEASE", "1s")];
    let workers = [(); 2].map(|()| Process::test_worker(&redis).envs(&env).start());
    for n in 0..10 {
        redis.add_test_job("sleep", n, 600).await;
    }
    let started = |what: &str| {
        let lines = workers.iter().flat_map(|worker| worker.stdout());
        lines.filter(|line| line.text.starts_with(what)).count()
    };
    eventually("all run", PATIENCE, async || {
        (started("start") == 10).then_some(())
    })
    .await;
    redis.stop().await;
    let away = Instant::now();
    assert_eq!(started("end"), 0, "they end while Redis is away");
    eventually(
        "all have ended and their leases are over",
        PATIENCE,
        async || {
            (started("end") == 10 && away.elapsed() > Duration::from_millis(1200)).then_some(())
        },
    )
    .await;
    redis.up().await;
    redis.drained(PATIENCE).await;
    assert_eq!((started("start"), started("end")), (10, 10));
}

#[tokio::test]
async fn a_redis_that_was_killed_and_came_back_empty_is_used_again() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).start();
    redis.add_test_job("sleep", 1, 0).await;
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
    redis.kill();
    worker.wait_for_log("redis is unavailable", PATIENCE).await;
    redis.up_empty().await;
    let answers = Instant::now();
    // The job was added before the worker could create the group. The worker must still run it.
    resumes(&redis, &worker, answers, RESUMED).await;
    redis.drained(PATIENCE).await;
}

#[tokio::test]
async fn a_redis_that_loads_its_data_for_seconds_is_waited_for() {
    // Redis loads 3,000 keys, and needs a millisecond for each. Meanwhile it answers LOADING.
    let redis = Redis::builder()
        .directive("key-load-delay", "1000")
        .directive("loading-process-events-interval-bytes", "1024")
        .start()
        .await;
    let fill = "for i = 1, 3000 do redis.call('SET', 'filler:' .. i, i) end";
    redis.cmd(&["EVAL", fill, "0"]).await;
    let proxy = redis.proxy().await;
    let worker = Process::test_worker(&redis)
        .redis_addr(proxy.addr())
        .start();
    worker.wait_for_log("connected to redis", PATIENCE).await;
    redis.cmd(&["SAVE"]).await;
    redis.kill();
    redis.spawn();
    eventually("redis loads", PATIENCE, async || {
        redis
            .try_cmd(&["PING"])
            .await
            .err()
            .filter(|error| error.code() == Some("LOADING"))
    })
    .await;

    let (accepted, cpu) = (proxy.stats().connections_accepted, worker.cpu_time());
    let loading = Instant::now();
    redis.wait_up(PATIENCE).await;
    let (answers, lasted) = (Instant::now(), loading.elapsed());
    assert!(lasted > Duration::from_secs(1), "it loaded for {lasted:?}");
    let connections = proxy.stats().connections_accepted - accepted;
    assert!(
        connections as f64 <= 2.0 * lasted.as_secs_f64() + 2.0,
        "{connections} in {lasted:?}"
    );
    let cpu = worker.cpu_time() - cpu;
    assert!(cpu < lasted / 10, "{cpu:?} of CPU in {lasted:?}");
    resumes(&redis, &worker, answers, RESUMED).await;
}

/// Watches both programs while Redis is away for `outage`. Each program logs the outage once and
/// then only the reminders. It connects at most twice a second, and uses at most `cpu_share` of a
/// core.
async fn quiet_outage(outage: Duration, reminders: usize, cpu_share: f64) {
    let redis = Redis::start().await;
    let proxies: [FaultProxy; 2] = [redis.proxy().await, redis.proxy().await];
    let programs = [
        Process::server(&redis)
            .redis_addr(proxies[0].addr())
            .start(),
        Process::jobqueue(&redis)
            .redis_addr(proxies[1].addr())
            .start(),
    ];
    for program in &programs {
        program.wait_ready(PATIENCE).await;
    }
    for program in &programs {
        program.wait_for_log("connected to redis", PATIENCE).await;
    }
    programs[1].wait_for_log("worker started", PATIENCE).await;
    let marks = programs.each_ref().map(Process::log_mark);
    redis.kill();
    for (program, mark) in programs.iter().zip(marks) {
        program
            .wait_for_log_since(mark, "redis is unavailable", PATIENCE)
            .await;
    }
    let accepted = proxies
        .each_ref()
        .map(|proxy| proxy.stats().connections_accepted);
    let cpu = programs.each_ref().map(Process::cpu_time);
    // This gives the programs time to do what they must not do.
    tokio::time::sleep(outage).await;
    for i in 0..2 {
        let name = ["server", "jobqueue"][i];
        let connections = proxies[i].stats().connections_accepted - accepted[i];
        let most = 2.0 * outage.as_secs_f64() + 1.0;
        assert!(connections >= 2, "{name} connected {connections} times");
        assert!(
            connections as f64 <= most,
            "{name} connected {connections} times"
        );
        let cpu = programs[i].cpu_time() - cpu[i];
        let most = outage.mul_f64(cpu_share);
        assert!(cpu <= most, "{name} used {cpu:?}");
        let lines = &programs[i].stderr()[marks[i]..];
        assert_eq!(lines.len(), 1 + reminders, "{name}: {lines:#?}");
    }
    redis.up().await;
    for i in 0..2 {
        programs[i].wait_ready(PATIENCE).await;
        let end = programs[i].wait_for_log_since(marks[i], "redis is available again", PATIENCE);
        let end = end.await.text;
        let (_, lasted) = end.split_once("lasted=").expect("how long it took");
        let lasted = humantime_of(lasted);
        assert!(lasted >= outage && lasted < outage + PATIENCE, "{end}");
        let lines = programs[i].stderr().split_off(marks[i]);
        // An empty Redis got its group again, which is a line of its own.
        let lines = lines
            .iter()
            .filter(|line| !line.text.contains("consumer group"));
        assert_eq!(lines.count(), 2 + reminders);
    }
}

/// The time at the end of a line such as `... lasted=5s 12ms`.
fn humantime_of(text: &str) -> Duration {
    let parts = text.trim().trim_matches('"').split(' ').map(|part| {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap();
        let number: u64 = part[..digits].parse().unwrap();
        match &part[digits..] {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(60 * number),
            unit => panic!("{unit} in {text}"),
        }
    });
    parts.sum()
}

#[tokio::test]
async fn an_outage_is_two_log_lines_and_few_connections() {
    // This limit is for a debug build with other tests beside it. The long test has the real limit.
    quiet_outage(Duration::from_secs(5), 0, 0.04).await;
}

#[tokio::test]
#[ignore = "long: an outage of ten minutes"]
async fn an_outage_of_ten_minutes_costs_next_to_nothing() {
    quiet_outage(Duration::from_secs(605), 10, 0.01).await;
}
