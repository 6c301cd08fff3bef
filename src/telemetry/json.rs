//! Log lines as JSON: each line is one flat object, and no key occurs twice in it.
//!
//! The JSON of tracing-subscriber nests the fields of spans, and repeats a key when a field has the
//! name of one of its own keys.

use std::fmt;
use std::sync::OnceLock;

use serde::Serializer;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// The worker's name in its group, once it has one.
pub(super) static CONSUMER: OnceLock<String> = OnceLock::new();

/// The keys that a line has besides its fields. A field of an event or a span with such a name gets
/// the prefix `field_`.
const FIXED: [&str; 7] = [
    "timestamp",
    "level",
    "message",
    "target",
    "host",
    "pid",
    "consumer",
];

/// Formats events as such lines. The fields of spans must be formatted by
/// [`tracing_subscriber::fmt::format::JsonFields`].
#[derive(Debug)]
pub(super) struct JsonLines {
    host: String,
}

/// The fields of an event.
#[derive(Default)]
struct Fields {
    message: Option<Value>,
    /// The target of an event of the `log` crate.
    log_target: Option<Value>,
    others: Vec<(&'static str, Value)>,
}

/// The object of a line, in the order in which it is written.
struct Line(Vec<(String, Value)>);

impl JsonLines {
    pub(super) fn new() -> Self {
        let host = gethostname::gethostname();
        let host = host.to_string_lossy().into_owned();
        Self { host }
    }

    /// A line with its fixed keys.
    fn line(
        &self,
        metadata: &Metadata<'_>,
        message: Option<Value>,
        log_target: Option<Value>,
    ) -> Result<Line, fmt::Error> {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let fixed = [
            ("timestamp", Some(timestamp.into())),
            ("level", Some(metadata.level().as_str().into())),
            ("message", Some(message.unwrap_or_else(|| "".into()))),
            (
                "target",
                Some(log_target.unwrap_or_else(|| metadata.target().into())),
            ),
            ("host", Some(self.host.as_str().into())),
            ("pid", Some(std::process::id().into())),
            ("consumer", CONSUMER.get().map(|name| name.as_str().into())),
        ];
        let present = fixed
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)));
        Ok(Line(present.collect()))
    }
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut line = self.line(event.metadata(), fields.message, fields.log_target)?;
        for (name, value) in fields.others {
            line.add(name, value);
        }
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            let Some(formatted) = extensions.get::<FormattedFields<N>>() else {
                continue;
            };
            // A span without fields has no JSON.
            let fields: Map<String, Value> = serde_json::from_str(formatted).unwrap_or_default();
            for (name, value) in fields {
                line.add(&name, value);
            }
        }
        line.write(&mut writer)
    }
}

impl Line {
    /// Adds a field, unless the line has one with that name. The fields of the event are added first,
    /// then those of its span, then those of the spans around that: the innermost wins.
    fn add(&mut self, name: &str, value: Value) {
        let find = |name: &str| self.0.iter().find(|(known, _)| known == name);
        let name = name.strip_prefix("r#").unwrap_or(name);
        let name = match find(name) {
            Some((_, known)) if *known == value => return,
            _ if FIXED.contains(&name) => format!("field_{name}"),
            _ => name.to_owned(),
        };
        if find(&name).is_none() {
            self.0.push((name, value));
        }
    }

    fn write(self, writer: &mut Writer<'_>) -> fmt::Result {
        let mut line = Vec::new();
        let fields = self.0.iter().map(|(name, value)| (name, value));
        let written = serde_json::Serializer::new(&mut line).collect_map(fields);
        written.map_err(|_| fmt::Error)?;
        let line = String::from_utf8(line).map_err(|_| fmt::Error)?;
        writeln!(writer, "{line}")
    }
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        match field.name() {
            "message" => self.message = Some(value),
            "log.target" => self.log_target = Some(value),
            name if name.starts_with("log.") => {}
            name => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, value.to_string().into());
    }
}

#[cfg(test)]
mod tests {
    use tracing::{info, info_span, warn};
    use tracing_subscriber::fmt::format::JsonFields;

    use super::*;
    use crate::captured::Captured;

    /// The one line that `act` logs, without its time.
    fn logged(act: impl FnOnce()) -> String {
        let log = Captured::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(log.clone())
            .fmt_fields(JsonFields::new())
            .event_format(JsonLines {
                host: "h".to_owned(),
            })
            .finish();
        tracing::subscriber::with_default(subscriber, act);
        let line = log.text();
        let (time, rest) = line.split_once(',').unwrap();
        assert!(
            time.starts_with(r#"{"timestamp":"2"#) && time.ends_with(r#"Z""#),
            "{time}"
        );
        rest.strip_suffix("}\n").unwrap().to_owned()
    }

    fn head(level: &str, message: &str) -> String {
        let (target, pid) = (module_path!(), std::process::id());
        format!(
            r#""level":"{level}","message":"{message}","target":"{target}","host":"h","pid":{pid}"#
        )
    }

    #[test]
    fn an_event_is_flat() {
        let line = logged(|| warn!(count = 3_u64, ok = true, what = ?Some("x"), "too \"many\""));
        let head = head("WARN", r#"too \"many\""#);
        assert_eq!(line, head + r#","count":3,"ok":true,"what":"Some(\"x\")""#);
    }

    #[test]
    fn the_fields_of_spans_stand_beside_those_of_the_event_which_win() {
        let line = logged(|| {
            let outer = info_span!("outer", job_id = "j", attempt = 1_u64).entered();
            let inner = info_span!("inner", entry_id = "1-1", attempt = 2_u64).entered();
            info!(entry_id = "1-2", "run");
            drop((inner, outer));
        });
        let line: Map<String, Value> = serde_json::from_str(&format!("{{{line}}}")).unwrap();
        assert_eq!(line["job_id"], "j");
        assert_eq!(line["entry_id"], "1-2");
        assert_eq!(line["attempt"], 2);
    }

    #[test]
    fn no_key_occurs_twice() {
        let line = logged(|| {
            let span = info_span!("job", level = 9_u64, message = "of the span", r#type = "t");
            let span = span.entered();
            info!(
                host = "other",
                pid = 7_u64,
                target = "t",
                timestamp = "now",
                "run"
            );
            drop(span);
        });
        let expected = head("INFO", "run")
            + r#","field_host":"other","field_pid":7,"field_target":"t","field_timestamp":"now""#
            + r#","field_level":9,"field_message":"of the span","type":"t""#;
        assert_eq!(line, expected);
    }
}
