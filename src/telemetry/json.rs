//! Log lines as JSON: one flat object a line, whose keys are unique.
//!
//! (The JSON of tracing-subscriber nests the fields of spans, and writes a key twice when a
//! field has the name of one of its own.)

use std::fmt;
use std::sync::OnceLock;

use serde::Serializer;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// The worker's name in its group, once it has one.
pub(super) static CONSUMER: OnceLock<String> = OnceLock::new();

/// What every line may have. A field of an event or a span with such a name is written with
/// `field_` before it.
const FIXED: [&str; 7] = [
    "timestamp",
    "level",
    "message",
    "target",
    "host",
    "pid",
    "consumer",
];

/// See the file's head. The fields of spans must be formatted by
/// [`tracing_subscriber::fmt::format::JsonFields`].
#[derive(Debug)]
pub(super) struct JsonLines {
    host: String,
}

/// The fields of an event.
#[derive(Default)]
struct Fields {
    message: Option<Value>,
    /// Where an event of the `log` crate comes from.
    log_target: Option<Value>,
    others: Vec<(&'static str, Value)>,
}

/// The object in the order in which it is written.
#[derive(Default)]
struct Object(Vec<(String, Value)>);

impl JsonLines {
    pub(super) fn new() -> Self {
        let host = gethostname::gethostname();
        let host = host.to_string_lossy().into_owned();
        Self { host }
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
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let metadata = event.metadata();
        let target = fields
            .log_target
            .unwrap_or_else(|| metadata.target().into());
        let mut object = Object(vec![
            ("timestamp".to_owned(), timestamp.into()),
            ("level".to_owned(), metadata.level().as_str().into()),
            (
                "message".to_owned(),
                fields.message.unwrap_or_else(|| "".into()),
            ),
            ("target".to_owned(), target),
            ("host".to_owned(), self.host.as_str().into()),
            ("pid".to_owned(), std::process::id().into()),
        ]);
        if let Some(consumer) = CONSUMER.get() {
            object
                .0
                .push(("consumer".to_owned(), consumer.as_str().into()));
        }
        for (name, value) in fields.others {
            object.add(name, value);
        }
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            let Some(formatted) = extensions.get::<FormattedFields<N>>() else {
                continue;
            };
            // A span without fields has no JSON.
            let fields: Map<String, Value> = serde_json::from_str(formatted).unwrap_or_default();
            for (name, value) in fields {
                object.add(&name, value);
            }
        }
        object.write(&mut writer)
    }
}

impl Object {
    /// Adds a field, unless it is known: an event knows more than its span, and a span more
    /// than those around it.
    fn add(&mut self, name: &str, value: Value) {
        let known = |name: &str| self.0.iter().find(|(known, _)| known == name);
        let name = name.strip_prefix("r#").unwrap_or(name);
        let name = match known(name) {
            Some((_, known)) if *known == value => return,
            _ if FIXED.contains(&name) => format!("field_{name}"),
            _ => name.to_owned(),
        };
        if known(&name).is_none() {
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
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use tracing::{info, info_span, warn};
    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::fmt::format::JsonFields;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Memory {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    /// The one line that is logged, without its time.
    fn logged(log: impl FnOnce()) -> String {
        let memory = Memory::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(memory.clone())
            .fmt_fields(JsonFields::new())
            .event_format(JsonLines {
                host: "h".to_owned(),
            })
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let line = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
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
    fn the_fields_of_spans_are_beside_those_of_the_event_which_win() {
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
    fn no_key_is_written_twice() {
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
