//! `docs/wire-format.md` is true. Its tables are those of the code, its programs are the files in
//! `examples/producers`, a real worker says what the page says of wrong jobs, and its commands work.
//! `scripts/producers` runs the programs of other languages.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::{DEAD, PATIENCE, Process, Redis, SCHEDULED, eventually, letter_of, text};

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn page() -> String {
    read("docs/wire-format.md")
}

/// The cells of each row of the page's table that has this head. A cell's own backquotes are gone.
fn table(head: &str) -> Vec<Vec<String>> {
    let page = page();
    let lines = page.lines().skip_while(|line| *line != head).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|'));
    let cells = |row: &str| {
        let cells = row.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().replace('`', "")).collect()
    };
    let rows: Vec<_> = rows.map(cells).collect();
    assert!(rows.len() > 3, "{head}: {rows:?}");
    rows
}

fn first_cells(rows: Vec<Vec<String>>) -> BTreeSet<String> {
    rows.into_iter().map(|row| row[0].clone()).collect()
}

/// The texts between `before` and the next `after`.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Vec<&'a str> {
    let pieces = text.split(before).skip(1);
    pieces
        .map(|piece| piece.split_once(after).unwrap().0)
        .collect()
}

/// A constant of `code` that is a number or a product of numbers.
fn constant(code: &str, name: &str) -> Option<u64> {
    let definition = *between(code, &format!("const {name}: "), ";").first()?;
    let factors = definition.split_once("= ").unwrap().1.replace('_', "");
    let factors = factors.split(" * ").map(|factor| factor.parse::<u64>());
    Some(factors.map(Result::unwrap).product())
}

/// The names of a job's fields in JSON, with their types in Rust.
fn fields(code: &str) -> Vec<(String, String)> {
    let definition = between(code, "struct Wire {\n", "\n}")[0];
    let mut renamed = None;
    let mut fields = Vec::new();
    for line in definition.lines().map(str::trim) {
        if let Some((_, name)) = line.split_once("rename = \"") {
            renamed = name.split_once('"').map(|(name, _)| name.to_owned());
        } else if let Some((name, kind)) = line.trim_end_matches(',').split_once(": ")
            && !line.starts_with("///")
        {
            fields.push((renamed.take().unwrap_or(name.to_owned()), kind.to_owned()));
        }
    }
    fields
}

#[test]
fn the_table_of_fields_is_that_of_the_code() {
    let wire = read("src/service/jobqueue/job/wire.rs");
    let code = read("src/service/jobqueue/job.rs") + &wire;
    let mut rows =
        table("| field | type | unit | when absent or `null` | limits | meaning |").into_iter();
    let mut fields = fields(&wire);
    // The page has the field first that no job can do without.
    fields.sort_by_key(|(name, _)| name != "type");
    for (name, kind) in fields {
        let row = rows.next().unwrap_or_else(|| panic!("no row for {name}"));
        let upper = name.to_uppercase();
        let largest_allowed = constant(&code, &format!("MAX_{}", upper.trim_start_matches("MAX_")));
        let default = constant(&code, &format!("DEFAULT_{upper}"));
        let is_optional = kind.starts_with("Option<");
        let largest = match kind.trim_start_matches("Option<").trim_end_matches('>') {
            "u32" => Some(u64::from(u32::MAX)),
            "u64" => Some(u64::MAX),
            _ => None,
        };
        let json_type = match largest {
            Some(_) => "integer",
            None if kind.contains("RawValue") => "any JSON",
            None => "string",
        };
        assert_eq!(row[..2], [name.as_str(), json_type]);
        if let Some(largest) = largest {
            let largest = largest_allowed.unwrap_or(largest);
            assert_eq!(row[4], format!("0 to {largest}"), "{name}");
            let default = match is_optional {
                true => "absent".to_owned(),
                false => default.unwrap_or(0).to_string(),
            };
            assert_eq!(row[3], default, "{name}");
        }
        assert_eq!(row[2] == "milliseconds", name.ends_with("_ms"), "{name}");
        assert_eq!(row[3] == "malformed", kind == "String", "{name}");
    }
    assert_eq!(rows.next(), None);
    let bytes = constant(&code, "MAX_JOB_BYTES").unwrap();
    let bytes = format!(" {},{:03} bytes", bytes / 1000, bytes % 1000);
    assert!(page().contains(&bytes), "the page lacks{bytes}");
}

#[test]
fn the_keys_and_the_reasons_are_those_of_the_code() {
    let keys = read("src/service/jobqueue/redis/keys.rs");
    let keys = between(&keys, "format!(\"{stream}", "\"");
    let mut keys: BTreeSet<_> = keys
        .iter()
        .map(|suffix| format!("jobqueue:{{default}}{suffix}"))
        .collect();
    keys.insert("jobqueue:{default}".to_owned());
    let rows = table("| key | type | what other programs may do |");
    assert_eq!(first_cells(rows), keys);

    let letters = read("src/service/jobqueue/worker/dead_letter.rs");
    let mut reasons = between(&letters, "of_job(delivery, \"", "\"");
    reasons.extend(between(&letters, "of_entry(entry, \"", "\""));
    let destination = read("src/service/jobqueue/redis/destination.rs");
    reasons.extend(between(&destination, "RETRIES_USED_UP: &str = \"", "\""));
    let reasons: BTreeSet<_> = reasons.into_iter().map(str::to_owned).collect();
    let rows = table("| reason | when |");
    assert_eq!(first_cells(rows), reasons);
}

#[test]
fn the_programs_of_the_page_are_the_files() {
    let page = page();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/producers");
    let files = fs::read_dir(folder).unwrap();
    let files: Vec<_> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(files.len(), 7, "{files:?}");
    for file in files {
        let path = format!("examples/producers/{file}");
        let link = format!("[`{path}`](../{path}):\n\n```");
        let shown = between(&page, &link, "\n```\n");
        assert_eq!(shown.len(), 1, "the page shows {path} once");
        let (_, shown) = shown[0].split_once('\n').unwrap();
        assert_eq!(format!("{shown}\n"), read(&path), "{path}");
    }
}

#[tokio::test]
async fn a_worker_says_of_wrong_jobs_what_the_page_says() {
    let redis = Redis::start().await;
    let _worker = Process::jobqueue(&redis).start();
    for row in table("| job | error |") {
        let id = redis.add_job(&row[0]).await;
        let letter = letter_of(&redis, &id).await;
        assert_eq!(text(&letter, "reason"), "malformed", "{row:?}");
        assert_eq!(text(&letter, "error").replace('`', ""), row[1], "{row:?}");
    }
    let with_mark = redis.add_job("\u{feff}{\"type\":\"demo:delay_print\"}");
    let letter = letter_of(&redis, &with_mark.await).await;
    assert_eq!(text(&letter, "reason"), "malformed");

    let letters: Vec<(String, Vec<String>)> =
        redis.query(&["XRANGE", DEAD, "-", "+", "COUNT", "1"]).await;
    let names = letters[0].1.iter().step_by(2);
    let rows = table("| field | value |");
    assert_eq!(
        names.collect::<Vec<_>>(),
        rows.iter().map(|row| &row[0]).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_scheduled_job_is_what_the_page_shows() {
    let redis = Redis::start().await;
    let _worker = Process::jobqueue(&redis).start();
    let job = r#"{"type":"demo:delay_print","payload":{"message":"hello"},"delay_ms":3600000}"#;
    let id = redis.add_job(job).await;
    let members = eventually("it is scheduled", PATIENCE, async || {
        let members = redis.query(&["ZRANGE", SCHEDULED, "0", "-1", "WITHSCORES"]);
        let members: Vec<String> = members.await;
        (!members.is_empty()).then_some(members)
    });
    let members = members.await;
    let ms: u64 = id.split_once('-').unwrap().0.parse().unwrap();
    let example = 1_764_201_600_000;
    let due: u64 = members[1].parse().unwrap();
    let shown = format!(
        "\n    {}\n    {}\n",
        members[0]
            .replace(&id, &format!("{example}-0"))
            .replace(&ms.to_string(), &example.to_string()),
        due - ms + example
    );
    assert!(page().contains(&shown), "the page lacks{shown}");
}

/// Runs a command in a shell where `redis-cli` uses this Redis.
fn run(command: &str, redis: &Redis, home: &Path) -> String {
    let wrapper = home.join("redis-cli");
    if !wrapper.exists() {
        let real = format!("PATH=${{PATH#*:}} exec redis-cli -e -p {}", redis.port());
        fs::write(&wrapper, format!("#!/bin/sh\n{real} \"$@\"\n")).unwrap();
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", home.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).env("PATH", path);
    shell.env("REDIS_URL", format!("redis://127.0.0.1:{}", redis.port()));
    shell.current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = shell.output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{command}\n{said}");
    said
}

#[tokio::test]
async fn the_commands_and_the_program_for_redis_cli_work() {
    let redis = Redis::start().await;
    let worker = Process::jobqueue(&redis).start();
    worker.wait_ready(PATIENCE).await;
    let home = tempfile::tempdir().unwrap();
    let id = run("sh examples/producers/producer.sh", &redis, home.path());
    let (ms, seq) = id.trim().split_once('-').unwrap();
    assert!(
        ms.parse::<u64>().is_ok() && seq.parse::<u64>().is_ok(),
        "{id}"
    );
    let page = page();
    let commands = page.lines().filter_map(|line| line.strip_prefix("    "));
    let commands: Vec<_> = commands
        .filter(|line| line.starts_with("redis-cli "))
        .collect();
    assert!(commands.len() > 9, "{commands:#?}");
    let mut jobs = vec!["it's \"hello\" from redis-cli"];
    for command in commands {
        let said = run(command, &redis, home.path());
        if command.contains(" EVAL ") {
            assert_eq!(run(command, &redis, home.path()), said, "registered twice");
            jobs.push("Job executed successfully");
        } else if command.contains(" XADD ") {
            jobs.push("hello");
        }
    }
    // The page makes a user who may do nothing but add jobs.
    let url = format!("redis://producer:secret@127.0.0.1:{}", redis.port());
    let command = format!("REDIS_URL={url} sh examples/producers/producer.sh");
    run(&command, &redis, home.path());
    jobs.push(jobs[0]);
    let printed = worker.wait_for_lines(jobs.len(), PATIENCE).await;
    redis.drained(PATIENCE).await;
    let mut printed: Vec<_> = printed
        .iter()
        .map(|line| line.text.split_once("] ").unwrap().1)
        .collect();
    printed.sort_unstable();
    jobs.sort_unstable();
    assert_eq!(printed, jobs);
    assert_eq!(worker.stdout().len(), jobs.len());
}
