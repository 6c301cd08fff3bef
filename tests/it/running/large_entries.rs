//! Entries that are too large to be fetched. The jobs around them run as if these entries did not
//! exist. A copy inside Redis buries them with all their bytes.

use std::time::Duration;

use crate::support::{
    DEAD, LEASE, MBIT, PATIENCE, Process, Rate, Redis, SlowLine, eventually, hello, netstrings,
};

const MB: usize = 1_000_000;
const JOBS: usize = 500;
/// How long the jobs take on a busy machine when nothing delays them.
const AT_ONCE: Duration = Duration::from_secs(5);
/// The time until a large entry is buried. Entries that cannot be fetched are tried rarely.
const RARELY: Duration = Duration::from_secs(45);
/// A dead letter keeps at most this many fields by themselves. It keeps the other fields together.
const MAX_OWN_FIELDS: usize = 1_000;
/// The largest field with several fields in it. It is larger only when one value in it is larger.
const MAX_TOGETHER: usize = 70 * MB;

/// The fields of an entry in their order, as names and values.
type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// Bytes that no text contains. They differ from entry to entry.
fn binary(n: u8, bytes: usize) -> Vec<u8> {
    let mut pattern: Vec<u8> = (0..=255).collect();
    pattern.push(n);
    let mut value = pattern.repeat(bytes / pattern.len() + 1);
    value.truncate(bytes);
    value
}

fn blob(n: u8, bytes: usize) -> Fields {
    vec![(b"blob".to_vec(), binary(n, bytes))]
}

/// A job that would print a line, with this many bytes of JSON.
fn large_job(bytes: usize) -> Fields {
    let job = hello(0).replace("hello 0", &"x".repeat(bytes - hello(0).len() + 7));
    assert_eq!(job.len(), bytes);
    vec![(b"job".to_vec(), job.into_bytes())]
}

fn many_fields(count: usize, bytes: usize) -> Fields {
    let value = |n| format!("{n:x<bytes$}\r\n").into_bytes();
    (0..count)
        .map(|n| (format!("field {n}").into_bytes(), value(n)))
        .collect()
}

async fn add(redis: &Redis, fields: &Fields) -> String {
    let pairs = fields.iter();
    let pairs: Vec<_> = pairs.map(|(name, value)| (&name[..], &value[..])).collect();
    redis.add_entry(&pairs).await
}

/// Makes Redis close a client's connection as soon as this much output waits for the client.
async fn limit_output(redis: &Redis, limit: &str) {
    let limit = format!("normal {limit} 0 0");
    redis
        .cmd(&["CONFIG", "SET", "client-output-buffer-limit", &limit])
        .await;
}

fn printed(workers: &[Process]) -> usize {
    workers.iter().map(|worker| worker.stdout().len()).sum()
}

async fn all_printed(workers: &[Process], count: usize, deadline: Duration) {
    eventually(format!("{count} jobs are printed"), deadline, async || {
        (printed(workers) >= count).then_some(())
    })
    .await;
}

/// Waits until this many entries are buried and nothing else is left. The replies to these commands
/// are small.
async fn only_dead_letters(redis: &Redis, count: usize, deadline: Duration) {
    redis.drained(deadline).await;
    let dead: usize = redis.query(&["XLEN", DEAD]).await;
    assert_eq!(dead, count, "dead letters");
}

/// Asserts that the dead letters keep these entries, in any order.
async fn kept(redis: &Redis, entries: &[(String, Fields)]) {
    limit_output(redis, "0").await;
    let letters: Vec<(String, Vec<Vec<u8>>)> = redis.query(&["XRANGE", DEAD, "-", "+"]).await;
    assert_eq!(letters.len(), entries.len());
    for (_, strings) in letters {
        let mut fields: Fields = strings
            .chunks(2)
            .map(|pair| (pair[0].clone(), pair[1].clone()))
            .collect();
        let why = fields.split_off(fields.len() - 5);
        let names: Vec<&[u8]> = why.iter().map(|(name, _)| &name[..]).collect();
        let expected: [&[u8]; 5] = [b"reason", b"error", b"attempt", b"deliveries", b"died_from"];
        assert_eq!(names, expected);
        assert!(!why[0].1.is_empty() && !why[1].1.is_empty(), "{why:?}");
        let (_, entry) = entries
            .iter()
            .find(|(id, _)| id.as_bytes() == why[4].1)
            .expect("a dead letter of one of the entries");
        // This is not `assert_eq`, which would print megabytes.
        assert!(
            carried(fields) == *entry,
            "the letter has other bytes: {why:?}"
        );
    }
}

/// The fields of the entry, as its dead letter keeps them.
fn carried(letter: Fields) -> Fields {
    if letter.len() == 1 && letter[0].0 == b"job" {
        return letter;
    }
    let own = letter
        .iter()
        .take_while(|(name, _)| name.starts_with(b"entry."));
    let (own, together) = letter.split_at(own.count());
    assert!(own.len() == MAX_OWN_FIELDS || together.is_empty());
    let own = own
        .iter()
        .map(|(name, value)| (name[b"entry.".len()..].to_vec(), value.clone()));
    let mut fields: Fields = own.collect();
    for (n, (name, value)) in together.iter().enumerate() {
        let expected = match together.len() {
            1 => "entries".to_owned(),
            _ => format!("entries.{}", n + 1),
        };
        assert_eq!(name.escape_ascii().to_string(), expected);
        let strings = netstrings(value);
        let (bytes, largest) = (value.len(), strings.iter().map(|string| string.len()).max());
        assert!(
            bytes <= MAX_TOGETHER || largest > Some(bytes / 2),
            "{bytes} in {expected}"
        );
        let pairs = strings.chunks(2);
        fields.extend(pairs.map(|pair| (pair[0].to_vec(), pair[1].to_vec())));
    }
    fields
}

/// Adds these entries among jobs. Asserts that all jobs run at once and that all entries are
/// buried.
async fn others_go_on(workers: usize, limit: &str, entries: Vec<Fields>) {
    let redis = Redis::start().await;
    limit_output(&redis, limit).await;
    let workers: Vec<Process> = (0..workers)
        .map(|_| Process::jobqueue(&redis).envs(&[LEASE]).start())
        .collect();
    for worker in &workers {
        worker.wait_ready(PATIENCE).await;
    }
    let (count, mut added) = (entries.len(), Vec::new());
    for (n, fields) in entries.into_iter().enumerate() {
        let jobs = (n * JOBS / count)..((n + 1) * JOBS / count);
        let id = add(&redis, &fields).await;
        added.push((id, fields));
        redis.add_jobs(jobs.map(hello)).await;
    }
    all_printed(&workers, JOBS, AT_ONCE).await;
    only_dead_letters(&redis, count, RARELY).await;
    kept(&redis, &added).await;
    for worker in &workers {
        let (status, body) = worker.get("/ready").await;
        assert_eq!(status, 200, "{body}");
    }
    assert_eq!(printed(&workers), JOBS, "each job once");
}

#[tokio::test]
async fn an_output_limit_matters_to_nobody_while_entries_are_small() {
    let redis = Redis::start().await;
    limit_output(&redis, "1mb").await;
    let workers = [Process::jobqueue(&redis).start()];
    workers[0].wait_ready(PATIENCE).await;
    // The jobs have 4 MB in all, but none of them is large.
    let job = |n| hello(n).replace("hello", &"x".repeat(2_000));
    redis.add_jobs((0..2_000).map(job)).await;
    all_printed(&workers, 2_000, 2 * AT_ONCE).await;
    redis.drained(PATIENCE).await;
}

#[tokio::test]
async fn large_entries_are_buried_as_they_are() {
    let fields = many_fields(MAX_OWN_FIELDS, 1_500);
    others_go_on(1, "0", vec![blob(0, 2 * MB), large_job(2 * MB), fields]).await;
}

#[tokio::test]
async fn one_entry_beyond_the_output_limit_does_not_stop_a_worker() {
    others_go_on(1, "1mb", vec![blob(0, 2 * MB)]).await;
}

#[tokio::test]
async fn three_entries_beyond_the_output_limit_do_not_stop_a_worker() {
    let entries = (0..3).map(|n| blob(n, 2 * MB)).collect();
    others_go_on(1, "1mb", entries).await;
}

#[tokio::test]
async fn ten_entries_beyond_the_output_limit_do_not_stop_three_workers() {
    let entries = (0..10).map(|n| blob(n, 2 * MB)).collect();
    others_go_on(3, "1mb", entries).await;
}

#[tokio::test]
async fn a_job_beyond_the_output_limit_is_buried_as_it_is() {
    others_go_on(1, "1mb", vec![large_job(2 * MB)]).await;
}

#[tokio::test]
async fn a_valid_job_that_cannot_be_fetched_is_buried_in_the_end() {
    others_go_on(1, "100kb", vec![large_job(200_000)]).await;
}

#[tokio::test]
async fn many_valid_jobs_that_cannot_be_fetched_hold_up_no_other() {
    let redis = Redis::start().await;
    limit_output(&redis, "100kb").await;
    for _ in 0..30 {
        add(&redis, &large_job(200_000)).await;
    }
    redis.add_jobs((0..300).map(hello)).await;
    let workers = [Process::jobqueue(&redis).envs(&[LEASE]).start()];
    all_printed(&workers, 300, AT_ONCE * 2).await;
    let ends = workers[0].wait_for_log("ends again and again", RARELY);
    let ends = ends.await.text;
    assert!(ends.contains("connection=\"aside\""), "{ends}");
}

#[tokio::test]
async fn fields_beyond_the_thousandth_are_kept_together() {
    for limit in ["0", "1mb"] {
        let entries = vec![
            many_fields(1_500, 10),
            many_fields(1_500, 1_500),
            many_fields(20_000, 10),
            many_fields(20_000, 100),
        ];
        others_go_on(1, limit, entries).await;
    }
}

#[tokio::test]
async fn gigantic_binary_fields_are_buried_as_they_are() {
    let field = |n, bytes| (format!("blob {n}").into_bytes(), binary(n, bytes));
    let own = (0..3).map(|n| field(n, 50 * MB)).collect();
    // These fields are too much for one field that keeps several fields together.
    let mut together = many_fields(MAX_OWN_FIELDS, 1);
    together.extend((0..3).map(|n| field(n, 30 * MB)));
    others_go_on(1, "1mb", vec![own, together]).await;
}

async fn net_input_bytes(redis: &Redis) -> usize {
    let info: String = redis.query(&["INFO", "stats"]).await;
    let (_, rest) = info.split_once("total_net_input_bytes:").unwrap();
    rest.lines().next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_large_entry_is_not_sent_back_to_redis() {
    let redis = Redis::start().await;
    let entries = vec![
        blob(0, 20 * MB),
        large_job(20 * MB),
        many_fields(20_000, 1_000),
    ];
    let mut added = Vec::new();
    for fields in entries {
        added.push((add(&redis, &fields).await, fields));
    }
    let before = net_input_bytes(&redis).await;
    let worker = Process::jobqueue(&redis).start();
    redis.add_job(&hello(1)).await;
    worker.wait_for_lines(1, AT_ONCE).await;
    only_dead_letters(&redis, added.len(), RARELY).await;
    let sent = net_input_bytes(&redis).await - before;
    // The bytes include the commands of this test.
    assert!(sent < 2 * MB, "{sent} bytes were sent to Redis");
    kept(&redis, &added).await;
}

/// Adds an entry that this line would need 8 s for, and jobs during the whole time.
async fn others_go_on_beside(line_rate: u64) {
    let redis = Redis::start().await;
    let line = SlowLine::to(redis.addr()).await;
    let worker = Process::jobqueue(&redis)
        .redis_addr(line.addr())
        .envs(&[LEASE])
        .start();
    worker.wait_ready(PATIENCE).await;
    line.set_rate(Rate::Together(line_rate));
    let fields = blob(0, usize::try_from(line_rate).unwrap() * 8);
    let before = net_input_bytes(&redis).await;
    let added = [(add(&redis, &fields).await, fields)];
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    for n in 0..30 {
        ticks.tick().await;
        redis.add_jobs((n * 10..n * 10 + 10).map(hello)).await;
    }
    let workers = [worker];
    all_printed(&workers, 300, AT_ONCE).await;
    only_dead_letters(&redis, 1, RARELY).await;
    let sent = net_input_bytes(&redis).await - before - added[0].1[0].1.len();
    assert!(sent < MB, "{sent} bytes were sent to Redis");
    kept(&redis, &added).await;
    assert_eq!(printed(&workers), 300, "each job once");
    assert_eq!(workers[0].count_log("redis is unavailable"), 0);
}

#[tokio::test]
async fn an_entry_that_a_slow_line_does_not_carry_holds_nobody_up() {
    others_go_on_beside(MBIT).await;
}

#[tokio::test]
async fn an_entry_that_a_faster_line_does_not_carry_holds_nobody_up() {
    others_go_on_beside(10 * MBIT).await;
}
