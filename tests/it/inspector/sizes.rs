//! However large the backlog is, an operator gets an answer within 300 ms, or hears how far a search is, and Redis
//! is never held for more than 5 ms.

use std::time::{Duration, Instant};

use dm_jobqueue::program::inside::{Acted, Action, Filter, Inspector, State};
use redis::Value;
use uuid::{ContextV7, Timestamp, Uuid};

use super::{act, find, inspect, named, sweep};
use crate::support::{DEAD, Redis, SCHEDULED, STREAM};

const ANSWER: Duration = Duration::from_millis(300);
const SEARCH: Duration = Duration::from_secs(20);

/// Jobs as the API makes them, of about 250 bytes.
const FILL: &str = r#"
local from, to, what, now = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local text = string.rep('x', 120)
for n = from, to - 1 do
  local id = string.format('%s-%07d', what, n)
  local job = '{"id":"' .. id .. '","type":"demo:delay_print","payload":{"message":"' .. text .. '","n":' .. n .. '}}'
  if what == 'waiting' then
    redis.call('XADD', KEYS[1], '*', 'job', job)
  elseif what == 'scheduled' then
    -- A hundred thousand of them are due at the same moment.
    local due = now + (n < 100000 and 60000 or n)
    redis.call('ZADD', KEYS[1], due, (now - 1000000 + n) .. '-0:' .. job)
  else
    redis.call('XADD', KEYS[1], '*', 'job', job, 'reason', 'retries used up', 'error', text,
      'attempt', '11', 'deliveries', '1', 'died_from', (n + 1) .. '-1')
  end
end"#;

async fn fill(redis: &Redis, key: &str, what: &str, many: u64) {
    let now = redis.now_ms().await.to_string();
    for from in (0..many).step_by(20_000) {
        let to = (from + 20_000).min(many).to_string();
        let from = from.to_string();
        redis
            .cmd(&["EVAL", FILL, "1", key, &from, &to, what, &now])
            .await;
    }
}

/// Runs what an operator asks, and says how long it took.
async fn timed<T>(what: &str, limit: Duration, asked: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let answer = asked.await;
    let took = began.elapsed();
    eprintln!("{what}: {took:?}");
    assert!(took < limit, "{what} took {took:?}");
    answer
}

async fn pages(inspector: &mut Inspector, state: State, middle: &str) {
    let first = inspector.list(state, None, 100);
    let first = timed(&format!("{state:?}, first page"), ANSWER, first)
        .await
        .unwrap();
    assert_eq!(first.jobs.len(), 100);
    assert!(first.next.is_some());
    let page = inspector.list(state, Some(middle), 100);
    let page = timed(&format!("{state:?}, page in the middle"), ANSWER, page)
        .await
        .unwrap();
    assert_eq!(page.jobs.len(), 100);
}

/// What takes longer than an answer may. Each of them tells how far it is.
async fn long_ones(inspector: &mut Inspector) {
    // Another job may have had the id of the second one before.
    for id in [
        "scheduled-0999999",
        "dead-0099990",
        "dead-0000001",
        "nowhere",
    ] {
        let mut steps = 0;
        let mut count = |_| {
            steps += 1;
            true
        };
        let search = inspector.find(id, &mut count);
        let found = timed(&format!("search for {id}"), SEARCH, search).await;
        assert_eq!(found.unwrap().is_some(), id != "nowhere");
        assert!(steps > 100, "{steps}");
    }
    let filter = Filter {
        text: Some("\"n\":77777}".to_owned()),
        ..Filter::default()
    };
    let retry = sweep(inspector, Action::Retry, State::Dead, &filter);
    let swept = timed("retry one of all", SEARCH, retry).await;
    assert_eq!((swept.looked, swept.done, swept.refused), (100_001, 1, 0));
    let all = Filter::default();
    let delete = sweep(inspector, Action::Delete, State::Dead, &all);
    let swept = timed("delete all dead letters", 3 * SEARCH, delete).await;
    assert_eq!(swept.done, 100_000);
}

/// The commands that hold Redis for too long. On a busy machine Redis itself has to wait at times, so only those
/// count that are as slow each time that they are run again.
async fn slow_commands(redis: &Redis) -> Vec<Vec<Vec<u8>>> {
    let rows: Vec<Vec<Value>> = redis.query(&["SLOWLOG", "GET", "-1"]).await;
    let mut slow = Vec::new();
    'rows: for row in rows {
        let command: Vec<Vec<u8>> = redis::from_redis_value(row[3].clone()).unwrap();
        // An action is too late the second time, and does less.
        assert_ne!(command[0], b"EVALSHA", "{:?}", row[3]);
        for _ in 0..5 {
            redis.cmd(&["SLOWLOG", "RESET"]).await;
            redis.cmd(&command).await;
            if redis.query::<u64>(&["SLOWLOG", "LEN"]).await == 0 {
                continue 'rows;
            }
        }
        slow.push(command);
    }
    slow
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "fills a Redis with two million jobs, which takes a minute"]
async fn no_backlog_is_too_large() {
    let redis = Redis::start().await;
    redis.make_group().await;
    let million = 1_000_000;
    fill(&redis, STREAM, "waiting", million).await;
    fill(&redis, SCHEDULED, "scheduled", million).await;
    fill(&redis, DEAD, "dead", 100_000).await;
    // This one has been registered by the API in the midst of others.
    let ids = redis.deliver("w1", 5).await;
    redis.put_back(&ids[4]).await;
    let now = redis.now_ms().await;
    let time = Timestamp::from_unix(ContextV7::new(), now / 1000, 0);
    let [uuid, died] = [(); 2].map(|()| Uuid::new_v7(time).to_string());
    redis.add_job(&named(&uuid)).await;
    redis.add_letter(&named(&died), "poison", "9-1").await;
    fill(&redis, STREAM, "waiting", 20_000).await;

    redis
        .cmd(&["CONFIG", "SET", "slowlog-log-slower-than", "5000"])
        .await;
    redis.cmd(&["SLOWLOG", "RESET"]).await;
    let mut inspector = inspect(&redis);
    let stats = timed("stats", ANSWER, inspector.stats()).await.unwrap();
    assert_eq!(
        (stats.waiting, stats.scheduled),
        (million + 20_001 - 4, million)
    );
    timed("stats again", ANSWER, inspector.stats())
        .await
        .unwrap();

    let entries: Vec<(String, Value)> = redis
        .query(&["XREVRANGE", STREAM, "+", "-", "COUNT", "500"])
        .await;
    pages(&mut inspector, State::Waiting, &entries[400].0).await;
    let rank = (million / 2).to_string();
    for rank in ["50000", &rank, "999800"] {
        let (member, due): (String, String) = redis
            .query(&["ZRANGE", SCHEDULED, rank, rank, "WITHSCORES"])
            .await;
        let place = format!("{due}:{}", member.split(':').next().unwrap());
        pages(&mut inspector, State::Scheduled, &place).await;
    }
    let letters: Vec<(String, Value)> = redis
        .query(&["XRANGE", DEAD, "-", "+", "COUNT", "500"])
        .await;
    pages(&mut inspector, State::Dead, &letters[200].0).await;

    for id in [&uuid, &entries[3].0, &ids[1], "waiting-0000003", &died] {
        let job = timed(&format!("find {id}"), ANSWER, find(&mut inspector, id)).await;
        assert!(job.is_some(), "{id}");
    }
    let cancel = act(&mut inspector, Action::Cancel, &uuid);
    let acted = timed("cancel", ANSWER, cancel).await;
    assert!(matches!(acted, Acted::Done(_)), "{acted:?}");

    long_ones(&mut inspector).await;
    let slow = slow_commands(&redis).await;
    let shown: Vec<_> = slow.iter().map(|command| command.join(&b' ')).collect();
    assert!(
        shown.is_empty(),
        "{:?}",
        shown
            .iter()
            .map(|line| String::from_utf8_lossy(line))
            .collect::<Vec<_>>()
    );
}
