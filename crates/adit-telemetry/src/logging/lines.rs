//! Log lines as cloudflared writes them: one JSON object a line, `level` in lower case, `time`, `message`, fields.
//!
//! People's log filters go on working (cloudflared: `logger/create.go`, zerolog's names).

use std::fmt;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::json::put_string;

/// Bytes of one value.
const VALUE_MAX: usize = 16 * 1024;

/// The format.
pub(super) struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let now = OffsetDateTime::now_utc().format(&Rfc3339).map_err(|_| fmt::Error)?;
        let mut line = Line(format!(r#"{{"level":"{level}","time":"{now}""#).into_bytes());
        event.record(&mut line);
        line.0.extend_from_slice(b"}\n");
        writer.write_str(&String::from_utf8_lossy(&line.0))
    }
}

/// A line that grows by one field after the other.
struct Line(Vec<u8>);

impl Line {
    fn name(&mut self, field: &Field) {
        self.0.push(b',');
        put_string(&mut self.0, field.name().as_bytes(), VALUE_MAX);
        self.0.push(b':');
    }

    fn bare(&mut self, field: &Field, value: impl fmt::Display) {
        self.name(field);
        self.0.extend_from_slice(value.to_string().as_bytes());
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        // Where a line stands in a library's source helps nobody who reads ours.
        if field.name().starts_with("log.") {
            return;
        }
        self.name(field);
        put_string(&mut self.0, value.as_bytes(), VALUE_MAX);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::fmt::MakeWriter;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Kept {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn a_line_has_zerologs_names() {
        let kept = Kept::default();
        let subscriber = tracing_subscriber::fmt().event_format(Lines).with_writer(kept.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(connIndex = 2_u64, quic = true, cause = "a \"b\"\nc", "it broke");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "warn");
        assert_eq!(line["message"], "it broke");
        assert_eq!((&line["connIndex"], &line["quic"]), (&2.into(), &true.into()));
        assert_eq!(line["cause"], "a \"b\"\nc");
        assert!(line["time"].as_str().unwrap().ends_with('Z'));
    }
}
