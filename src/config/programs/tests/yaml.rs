//! Files as people and their editors write them: what is read, and the words for what is not.

use proptest::prelude::*;

use super::super::Config;
use super::{load, map, redis_yaml, secs};

#[test]
fn broken_yaml_is_named_with_its_line() {
    let message = load("server:\n  port: 1\n lease: [\n", "", &[]).unwrap_err();
    assert!(
        message.starts_with("DIR/develop.yaml: not valid YAML: "),
        "{message}"
    );
    assert!(message.contains(" line 3 "), "{message}");

    let message = load("", "a: 1\na: 2\n", &[]).unwrap_err();
    assert!(
        message.starts_with("DIR/develop/cacheserver.yaml: "),
        "{message}"
    );
    assert!(message.contains("duplicated key"), "{message}");

    let message = load("", &redis_yaml("password: {{s3cret}}"), &[]).unwrap_err();
    assert!(!message.contains("s3cret"), "{message}");

    let message = load("s3cret", "", &[]).unwrap_err();
    assert!(!message.contains("s3cret"), "{message}");
    assert!(
        message.contains("not valid YAML: the top level is no section"),
        "{message}"
    );
}

/// Loads a main file of these bytes.
fn bytes(main: &[u8]) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("develop")).unwrap();
    std::fs::write(dir.path().join("develop.yaml"), main).unwrap();
    std::fs::write(dir.path().join("develop/cacheserver.yaml"), "").unwrap();
    let config = Config::from_sources("develop", dir.path(), &map(&[]));
    config.map_err(|error| error.to_string())
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let config = bytes("\u{feff}server:\r\n  port: 1\r\n".as_bytes()).unwrap();
    assert_eq!(config.server.port, 1);
    assert!(bytes("\u{feff}".as_bytes()).is_ok());
    let config = load("", &format!("\u{feff}{}", redis_yaml("addr: a:1")), &[]).unwrap();
    assert_eq!(config.redis.addr, "a:1");
}

#[test]
fn another_encoding_is_named() {
    let utf16 = |order: fn(u16) -> [u8; 2], mark: &str| {
        let text = format!("{mark}server:");
        text.encode_utf16().flat_map(order).collect::<Vec<u8>>()
    };
    for file in [
        utf16(u16::to_le_bytes, "\u{feff}"),
        utf16(u16::to_be_bytes, "\u{feff}"),
        utf16(u16::to_le_bytes, ""),
    ] {
        let message = bytes(&file).unwrap_err();
        assert!(
            message.contains("UTF-16 text, expected UTF-8; save the file in that encoding"),
            "{message}"
        );
    }
    // Japanese in Shift_JIS.
    let message = bytes(b"# a\n# \x83\x4c\n").unwrap_err();
    assert!(message.contains("not UTF-8 in line 2"), "{message}");
}

#[test]
fn a_tab_is_named() {
    for main in ["server:\n\tport: 1\n", "server:\n  port:\t1\n"] {
        let message = load(main, "", &[]).unwrap_err();
        assert!(message.contains("at line 2 "), "{message}");
        assert!(message.contains("YAML wants spaces"), "{message}");
    }
    assert!(load("server:\n  port: 1\t# a comment\n", "", &[]).is_ok());
}

#[test]
fn anchors_aliases_and_merge_keys_work() {
    let main = "x-times: &times {lease: 20s, job_timeout: 1m}\n\
                x-retry: &retry {initial: 2s}\n\
                jobqueue:\n  <<: [*times, {lease: 1m, port: 7}]\n  job_timeout: 2m\n  \
                retry: {<<: *retry, max: 1m}\n";
    let config = load(main, "", &[]).unwrap();
    assert_eq!(config.jobqueue.worker.lease, secs(20));
    assert_eq!(config.jobqueue.port, 7);
    assert_eq!(config.jobqueue.worker.job_timeout, secs(120));
    assert_eq!(config.jobqueue.worker.retry.initial, secs(2));
    assert_eq!(config.jobqueue.worker.retry.max, secs(60));
    assert_eq!(config.sources.others, ["x-retry", "x-times"]);

    let message = load("server: {<<: 7}", "", &[]).unwrap_err();
    assert!(message.contains("<< stands before"), "{message}");
    let message = load("server: {port: *nobody}", "", &[]).unwrap_err();
    assert!(message.contains("unknown anchor"), "{message}");
}

#[test]
fn a_file_has_one_document() {
    let config = load("---\nserver: {port: 1}\n---\n", "", &[]).unwrap();
    assert_eq!(config.server.port, 1);
    let message = load("server: {port: 1}\n---\nserver: {port: 2}\n", "", &[]).unwrap_err();
    assert!(
        message.contains("it has 2 documents, expected one"),
        "{message}"
    );
}

#[test]
fn a_name_may_be_written_with_dots() {
    let config = load("server.port: 1\njobqueue: {retry.max: 1m}", "", &[]).unwrap();
    assert_eq!(config.server.port, 1);
    assert_eq!(config.jobqueue.worker.retry.max, secs(60));
}

#[test]
fn of_two_forms_of_a_name_the_last_in_the_file_holds() {
    // Repeated, since a random order would be right now and then.
    for _ in 0..50 {
        let config = load("server.port: 1\nserver: {port: 2}", "", &[]).unwrap();
        assert_eq!(config.server.port, 2);
        let config = load("server: {port: 2}\nserver.port: 1", "", &[]).unwrap();
        assert_eq!(config.server.port, 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Pieces of YAML put together at random: an answer and no panic.
    #[test]
    fn any_file_is_read_without_a_panic(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "server", "jobqueue", ":", ": ", "\n", "\n  ", "\t", "- ", "{", "}", "[", "]", "&a ",
                "*a", "<<", "'", "\"", "|", ">", "#", "!!int ", "!x ", "%", "@", "? ", ", ", "---\n",
                "...\n", "\u{feff}", "1", "1e5", "~", "s3cret", "\\", "\u{85}", "\u{2028}",
            ]),
            0..24,
        ),
    ) {
        let outcome = load(&pieces.concat(), "", &[]);
        if let Err(message) = outcome {
            prop_assert!(!message.contains("s3cret"), "{message}");
        }
    }
}
