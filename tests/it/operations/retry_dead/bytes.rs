//! The job's JSON stays as it was, whatever it contains. Only the queue's own counts are removed.

use serde_json::Value;

use super::{bury, dead_ids, jobs, retry};
use crate::support::{Redis, STREAM};

#[tokio::test]
async fn only_the_jobs_own_count_is_taken_out() {
    let redis = Redis::start().await;
    let long_ago = "1000-7";
    let soon = format!("{}-0", redis.now_ms().await);
    for (job, died_from, expected) in [
        (
            r#"{"type":"x","attempt":3,"payload":{"attempt":3},"id":"a"}"#,
            long_ago,
            r#"{"type":"x","payload":{"attempt":3},"id":"a"}"#,
        ),
        (
            "\n{ \"attempt\" :\t3 , \"id\":\"a\", \"type\":\"x\" } ",
            long_ago,
            "\n{ \"id\":\"a\", \"type\":\"x\" } ",
        ),
        (
            r#"{"id":"a","t\"attempt\":1":"\"attempt\":3,","type":"\\","attempt":3}"#,
            long_ago,
            r#"{"id":"a","t\"attempt\":1":"\"attempt\":3,","type":"\\"}"#,
        ),
        (
            r#"{"attempt":1,"id":"a","\u0061ttempt":2,"type":"x","attempt":null}"#,
            long_ago,
            r#"{"id":"a","type":"x"}"#,
        ),
        (
            r#"{"id":"a","type":"x","unknown_for_ms":3600000,"attempt":1}"#,
            long_ago,
            r#"{"id":"a","type":"x"}"#,
        ),
        // This job had never been moved, so it still had its entry's id and its delay.
        (
            r#"{"type":"x","delay_ms":5000}"#,
            long_ago,
            r#"{"id":"1000-7","type":"x"}"#,
        ),
        (
            r#"{"id":null,"delay_ms":null,"type":"x"}"#,
            long_ago,
            r#"{"id":"1000-7","type":"x"}"#,
        ),
        // This delay is not over. The delay of the next job is not a number, and stays as it is.
        (
            r#"{"id":"a","type":"x","delay_ms":60000}"#,
            &soon,
            r#"{"id":"a","type":"x","delay_ms":60000}"#,
        ),
        (
            r#"{"id":"a","type":"x","delay_ms":"5"}"#,
            long_ago,
            r#"{"id":"a","type":"x","delay_ms":"5"}"#,
        ),
    ] {
        let id = bury(&redis, job, died_from).await;
        let (said, _) = retry(&redis, &[&id]);
        assert_eq!(
            jobs(&redis).await.pop().as_deref(),
            Some(expected),
            "{said}"
        );
    }
    assert!(dead_ids(&redis).await.is_empty());
}

/// JSON with spaces around its parts. It contains text that could mislead a scanner.
fn any_json(random: &mut fastrand::Rng, depth: u32) -> String {
    let scalars = [
        "null",
        "true",
        "-1.50e+3",
        "9007199254740993",
        r#""""#,
        r#""\\""#,
        r#""\"""#,
        r#""{[,:""#,
        r#""}]\\\"""#,
        r#""日本\u0000🎉""#,
        r#""\"attempt\":3,""#,
        "[]",
        "{ }",
    ];
    let space = |random: &mut fastrand::Rng| *random.choice(&["", " ", "\n\t"]).unwrap();
    let open = [space(random), space(random)];
    let many = random.usize(0..4);
    match random.u32(0..4) {
        0 if depth > 0 => {
            let items = (0..many).map(|_| any_json(random, depth - 1));
            format!(
                "{}[{}]{}",
                open[0],
                items.collect::<Vec<_>>().join(","),
                open[1]
            )
        }
        1 if depth > 0 => {
            let member = |_| {
                format!(
                    "\"attempt\"{}:{}",
                    space(random),
                    any_json(random, depth - 1)
                )
            };
            let members: Vec<String> = (0..many).map(member).collect();
            format!("{}{{{}}}{}", open[0], members.join(","), open[1])
        }
        _ => format!("{}{}{}", open[0], random.choice(scalars).unwrap(), open[1]),
    }
}

#[tokio::test]
async fn any_job_stays_as_it_was_but_for_its_count() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let redis = Redis::start().await;
    let (mut ids, mut expected) = (Vec::new(), Vec::new());
    for n in 0..300 {
        let mut members = vec![format!(r#""id":"{n}""#), r#""type" : "x""#.to_owned()];
        for name in 0..random.usize(0..4) {
            members.push(format!(
                r#""\"{name}":{}"#,
                any_json(&mut random, 3).trim_end()
            ));
        }
        random.shuffle(&mut members);
        expected.push(format!("{{{}}}", members.join(",")));
        let at = random.usize(..=members.len());
        members.insert(at, format!(r#""attempt" :{n}"#));
        let job = format!("{{{}}}", members.join(","));
        serde_json::from_str::<Value>(&job).unwrap();
        ids.push(bury(&redis, &job, "1-1").await);
    }
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let (said, _) = retry(&redis, &ids);
    assert_eq!(said.lines().count(), 300, "{said}");
    assert_eq!(jobs(&redis).await, expected);
}

/// JavaScript writes half of a surrogate pair when it has cut a text in the middle of the pair.
#[tokio::test]
async fn half_of_a_character_is_carried_as_it_is() {
    let redis = Redis::start().await;
    for rest in [
        r#""trace":"cut \ud83d""#,
        r#""trace":"\uDE00 \\ud83d \ud83d\ude00 日本語""#,
        r#""trace\ud83d":{"attempt":1}"#,
    ] {
        let job = format!(r#"{{"id":"a","type":"x",{rest},"attempt":3}}"#);
        let id = bury(&redis, &job, "1-1").await;
        let (said, status) = retry(&redis, &[&id]);
        assert_eq!(status, Some(0), "{said}");
        let expected = format!(r#"{{"id":"a","type":"x",{rest}}}"#);
        assert_eq!(jobs(&redis).await, [expected]);
        redis.cmd(&["DEL", STREAM]).await;
    }
    let deep = format!(
        r#"{{"type":"x","deep":{}{}}}"#,
        "[".repeat(2000),
        "]".repeat(2000)
    );
    let id = bury(&redis, &deep, "1-1").await;
    let (said, _) = retry(&redis, &[&id]);
    assert!(said.contains("its job is nested too deep"), "{said}");
}
