//! Events as JSON, one object a line: `timestamp`, `level`, `target`, `message`, and all fields beside them.

use std::fmt::{self, Debug};

use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

use crate::name::HostName;

/// Writes events.
pub(super) struct Lines {
    host: Option<String>,
}

impl Lines {
    pub(super) fn new(host: Option<&HostName>) -> Self {
        Self { host: host.map(ToString::to_string) }
    }
}

/// The fields of a span as one JSON object, from which [`Lines`] takes them.
pub(super) struct Fields;

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut taken = Taken::default();
        fields.record(&mut taken);
        write!(writer, "{}", Value::Object(taken.0))
    }

    fn add_fields(
        &self,
        current: &'writer mut FormattedFields<Self>,
        fields: &tracing::span::Record<'_>,
    ) -> fmt::Result {
        let mut taken = Taken(object(&current.fields));
        fields.record(&mut taken);
        current.fields = Value::Object(taken.0).to_string();
        Ok(())
    }
}

fn object(text: &str) -> Map<String, Value> {
    // Written by `format_fields`.
    serde_json::from_str(text).unwrap_or_default()
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let mut all = Taken::default();
        all.0.extend(self.host.clone().map(|host| ("host".to_owned(), host.into())));
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                all.0.extend(object(&fields.fields));
            }
        }
        event.record(&mut all);
        let (level, target) = (event.metadata().level(), event.metadata().target());
        let message = all.0.remove("message").unwrap_or_default();
        let head = [("timestamp", timestamp.into()), ("level", level.as_str().into()), ("target", target.into())];
        let head = head.into_iter().chain([("message", message)]);
        let mut gap = '{';
        for (name, value) in head.chain(all.0.iter().map(|(name, value)| (name.as_str(), value.clone()))) {
            write!(writer, "{gap}{}:{value}", Value::from(name))?;
            gap = ',';
        }
        writeln!(writer, "}}")
    }
}

/// Fields as JSON values; what is only shown becomes a text.
#[derive(Default)]
struct Taken(Map<String, Value>);

impl Taken {
    fn take(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Taken {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.take(field, value);
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, value);
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, value);
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, value);
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value);
    }
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.take(field, format!("{value:?}"));
    }
}
