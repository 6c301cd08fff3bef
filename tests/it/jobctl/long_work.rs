//! What takes long says how far it is, and has an end that says what was done.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Said, jobctl};
use crate::support::{
    DEAD, LEASE, PATIENCE, Process, Redis, SCHEDULED, STREAM, Terminal, eventually,
};

/// How long a Redis may take here to be filled, and a command to be slow.
const LONG: Duration = Duration::from_secs(30);
const MANY: u64 = 200_000;

/// Adds many dead letters, a part at a time.
async fn bury_many(redis: &Redis) {
    let script = "for i = 1, 20000 do redis.call('XADD', KEYS[1], '*', 'job', ARGV[1], 'reason', 'poison') end";
    let job = super::job("sleep", "many", 0);
    for _ in 0..MANY / 20_000 {
        redis.cmd(&["EVAL", script, "1", DEAD, &job]).await;
    }
}

/// The number in front of `noun` in what was said.
fn number_before(said: &str, noun: &str) -> u64 {
    let (before, _) = said
        .split_once(noun)
        .unwrap_or_else(|| panic!("no {noun}: {said}"));
    let number = before.split_whitespace().last().unwrap();
    number
        .replace(',', "")
        .parse()
        .unwrap_or_else(|error| panic!("{error}: {said}"))
}

fn ended(process: &Process, status: Option<i32>) -> Said {
    let text = |lines: Vec<_>| lines.join("\n");
    Said {
        status: status.unwrap(),
        out: text(process.stdout().into_iter().map(|line| line.text).collect()),
        err: text(process.stderr().into_iter().map(|line| line.text).collect()),
    }
}

#[tokio::test]
async fn a_long_sweep_says_how_far_it_is_and_ctrl_c_ends_it_in_order() {
    let redis = Redis::start().await;
    bury_many(&redis).await;
    let delete = Process::jobctl(&redis)
        .args(&["dead", "delete", "--all", "--yes", "--json"])
        .start();
    let line = delete.wait_for_log(") after", LONG).await.text;
    assert!(line.contains("of 200,000 dead letters looked at"), "{line}");
    delete.int();
    let status = delete.wait_exit(PATIENCE).await.code();
    let said = ended(&delete, status).ends(130);
    let last = said.err.lines().last().unwrap();
    let deleted = number_before(last, "dead letters deleted");
    assert!(deleted > 0 && last.starts_with("stopped: "), "{said:?}");
    let left: u64 = redis.query(&["XLEN", DEAD]).await;
    assert!(left > 0, "it was ended early: {said:?}");
    assert_eq!(deleted + left, MANY, "{said:?}");
    let document = said.json();
    assert_eq!(
        (&document["done"], &document["complete"]),
        (&deleted.into(), &false.into())
    );
}

/// Each is moved once, although workers die under it and the command itself is killed and started again.
#[tokio::test]
async fn ten_thousand_dead_letters_run_again_while_workers_die() {
    const LETTERS: u64 = 10_000;
    const AT_RISK: u64 = 10 + 512;
    let redis = Redis::start().await;
    let script = "for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'job', '{\"type\":\"demo:delay_print\",\"id\":\"' .. i .. '\",\"payload\":{\"message\":\"letter ' .. i .. '\"}}', 'reason', 'retries used up') end";
    redis
        .cmd(&["EVAL", script, "1", DEAD, &LETTERS.to_string()])
        .await;
    let worker = || Process::jobqueue(&redis).envs(&[LEASE]).start();
    let mut workers = vec![worker(), worker()];
    let mut killed = Vec::new();
    let retry = || {
        Process::jobctl(&redis)
            .args(&["dead", "retry", "--all", "--json"])
            .start()
    };
    let mut command = retry();
    for left in [9_000, 6_000, 3_000] {
        eventually(format!("{left} are left"), LONG, async || {
            (redis.query::<u64>(&["XLEN", DEAD]).await <= left).then_some(())
        })
        .await;
        workers[0].kill();
        killed.push(workers.remove(0));
        workers.push(worker());
        if left == 6_000 {
            command.kill();
            command = retry();
        }
    }
    assert!(command.wait_exit(LONG).await.success());
    redis.drained(LONG).await;
    assert_eq!(redis.dead_letters().await, []);
    let added: Vec<redis::Value> = redis.query(&["XINFO", "STREAM", STREAM]).await;
    let name = redis::Value::BulkString(b"entries-added".to_vec());
    let at = added.iter().position(|it| *it == name).unwrap();
    assert_eq!(
        added[at + 1],
        redis::Value::Int(10_000),
        "each was moved once"
    );
    let all = workers.iter().chain(&killed).flat_map(Process::stdout);
    let printed: Vec<String> = all
        .map(|line| line.text.split_once("] ").unwrap().1.to_owned())
        .collect();
    let different: BTreeSet<&String> = printed.iter().collect();
    assert_eq!(different.len() as u64, LETTERS, "none was lost");
    let again = printed.len() as u64 - LETTERS;
    assert!(again <= 3 * AT_RISK, "{again} ran twice for three deaths");
}

#[tokio::test]
async fn a_redis_that_goes_away_in_the_middle_is_told_with_what_was_done() {
    let redis = Redis::start().await;
    bury_many(&redis).await;
    let delete = Process::jobctl(&redis)
        .args(&["dead", "delete", "--all", "--yes"])
        .start();
    delete.wait_for_log(") after", LONG).await;
    redis.kill();
    let status = delete.wait_exit(PATIENCE).await.code();
    let said = ended(&delete, status).ends(69);
    assert!(said.err.contains(&redis.addr()), "{said:?}");
    let so_far = said
        .err
        .lines()
        .find(|line| line.starts_with("so far: "))
        .unwrap();
    assert!(
        number_before(so_far, "dead letters deleted") > 0,
        "{said:?}"
    );
}

#[tokio::test]
async fn a_terminal_has_a_bar_that_is_gone_at_the_end() {
    let redis = Redis::start().await;
    bury_many(&redis).await;
    let terminal = Terminal::sized(120, 24);
    let retry = ["list", "dead", "--reason", "nothing"];
    let list = Process::jobctl(&redis)
        .args(&retry)
        .on_terminal(&terminal)
        .start();
    terminal.wait_for("[=", LONG).await;
    assert_eq!(list.wait_exit(LONG).await.code(), Some(1));
    terminal.wait_for("no such job", PATIENCE).await;
    let shown = terminal.screen(120, 24);
    assert!(!shown.contains("[="), "{shown}");
}

#[tokio::test]
async fn a_long_search_is_ended_by_ctrl_c_and_says_what_it_looked_at() {
    let redis = Redis::start().await;
    let script =
        "for i = 1, 20000 do redis.call('ZADD', KEYS[1], 4e12, ARGV[1] .. i .. '-0:{}') end";
    for part in 0..30 {
        redis
            .cmd(&[
                "EVAL",
                script,
                "1",
                SCHEDULED,
                &format!("{}", 1_700_000 + part),
            ])
            .await;
    }
    let show = Process::jobctl(&redis).args(&["show", "nobody"]).start();
    show.wait_for_log("looking through 600,000 scheduled jobs", LONG)
        .await;
    show.int();
    let status = show.wait_exit(PATIENCE).await.code();
    let said = ended(&show, status).ends(130);
    assert!(said.err.contains("scheduled jobs"), "{said:?}");
    // Without Ctrl-C it comes to an end.
    let said = jobctl(&redis, &["show", "nobody"]).await.ends(1);
    assert!(
        said.err.contains("looked at: ") && said.err.contains("600,000 scheduled jobs"),
        "{said:?}"
    );
}
