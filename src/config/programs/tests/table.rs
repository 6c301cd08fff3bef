//! `docs/configuration.md` and its Japanese page have every setting with its default and its range, and
//! no other. The tables are written by hand, because the last column of each row is a sentence.

use std::{collections::BTreeSet, convert::Infallible, fs, path::Path};

use super::super::{Config, keys};
use crate::config::section::{Setting, Visitor};
use crate::config::value::Value;

/// Lists the first cells of each row of the tables: key, default and what is accepted.
struct Rows(BTreeSet<[String; 3]>);

impl Visitor for Rows {
    type Error = Infallible;

    fn visit<T: Value>(&mut self, setting: &Setting<'_, T>) -> Result<T, Infallible> {
        let default = setting.default.shown(&setting.limit);
        self.0.insert([
            setting.key.clone(),
            default.trim_matches('"').to_owned(),
            T::range(&setting.limit),
        ]);
        Ok(setting.default.clone())
    }
}

/// The rows that the page must have.
fn expected() -> BTreeSet<[String; 3]> {
    let mut rows = Rows(BTreeSet::new());
    let Ok(_) = Config::default().visit(&mut rows);
    let without_effect = keys::WITHOUT_EFFECT.map(|key| [key, "no effect", "anything"]);
    rows.0
        .extend(without_effect.map(|row| row.map(str::to_owned)));
    rows.0
}

/// The rows of a page that begin with a key, as [`Rows`] has them.
fn documented(page: &str) -> BTreeSet<[String; 3]> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = fs::read_to_string(path).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|line| {
        let cells = line.split('|').skip(1).take(3);
        let cells = cells.map(|cell| cell.replace('`', "").trim().to_owned());
        <[String; 3]>::try_from(cells.collect::<Vec<_>>()).ok()
    });
    cells.filter(|[key, ..]| key.contains('.')).collect()
}

fn assert_same(documented: &BTreeSet<[String; 3]>, expected: &BTreeSet<[String; 3]>) {
    let missing: BTreeSet<_> = expected.difference(documented).collect();
    let untrue: BTreeSet<_> = documented.difference(expected).collect();
    assert_eq!((missing, untrue), Default::default());
}

#[test]
fn the_document_has_every_setting_with_its_default_and_its_range() {
    assert_same(&documented("docs/configuration.md"), &expected());
}

/// The defaults that the Japanese page has in words.
const JAPANESE_DEFAULTS: [(&str, &str); 4] = [
    ("none", "なし"),
    ("no effect", "効果なし"),
    ("a third of the lease", "リースの 1/3"),
    (
        "1s, or half a heartbeat when that is less",
        "1s(heartbeat の半分がそれより短ければ、その値)",
    ),
];

/// The same of what is accepted.
const JAPANESE_RANGES: [(&str, &str); 12] = [
    ("anything", "何でもよい"),
    ("text", "文字列"),
    ("true or false", "true または false"),
    ("one of text, json", "text、json のどちらか"),
    (
        "one of trace, debug, info, warn, error",
        "trace、debug、info、warn、error のどれか",
    ),
    (
        "a host name or an IP address, without a port",
        "ホスト名または IP アドレス(ポートは付けない)",
    ),
    (
        "1 to 64 characters out of a-z, 0-9, _ and -",
        "1~64 文字(a-z、0-9、_、- のみ)",
    ),
    (
        "host:port ([address]:port for IPv6), redis://[user:password@]host[:port][/db], rediss://... for TLS, \
         or unix:///path/to/socket[?db=0&user=name&pass=password], without further parts",
        "host:port(IPv6 は [address]:port)、redis://[user:password@]host[:port][/db]、rediss://...(TLS)、\
         unix:///path/to/socket[?db=0&user=name&pass=password] のどれか(ほかの要素は付けられない)",
    ),
    (
        "a path that begins with / or ./, such as /run/secrets/redis",
        "/ または ./ で始まるパス(/run/secrets/redis など)",
    ),
    (
        "a list of origins such as http://localhost:3000, or *",
        "オリジン(http://localhost:3000 など)のリスト、または *",
    ),
    ("a list of methods, or *", "メソッドのリスト、または *"),
    (
        "a list of header names, or *",
        "ヘッダー名のリスト、または *",
    ),
];

/// A cell as the Japanese page has it. Numbers, durations and names are the same there.
fn in_japanese(cell: &str, words: &[(&str, &str)]) -> String {
    let found = words.iter().find(|(english, _)| *english == cell);
    found.map_or_else(
        || cell.replace(" to ", "~"),
        |(_, japanese)| (*japanese).to_owned(),
    )
}

#[test]
fn the_japanese_document_has_the_same_defaults_and_ranges() {
    let rows = expected().into_iter().map(|[key, default, range]| {
        let default = in_japanese(&default, &JAPANESE_DEFAULTS);
        [key, default, in_japanese(&range, &JAPANESE_RANGES)]
    });
    assert_same(&documented("docs/ja/configuration.md"), &rows.collect());
}
