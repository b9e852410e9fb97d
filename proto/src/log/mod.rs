//! How both daemons log: one event a line on stderr, as text for people or as JSON for programs (`log.format`).
//!
//! What is logged may hold what somebody else wrote: a tool's last words, a libvirt error, a host's fault. So no control
//! character is ever written raw: nobody can begin a line of his own or steer a terminal.
//!
//! | field | is |
//! | --- | --- |
//! | `job` | the job's id |
//! | `host` | the name of the host that it is about; on a host worker its own |
//! | `operator` | the name of the operator who asked |
//! | `peer` | the other side: the fingerprint of its key, before that its address, or its enrolled name |
//! | `verb` | what is asked: the request's word, or the kind of the job |
//! | `vm` | the virtual machine |
//! | `error` | why not, with all its causes |
//!
//! Fields of the spans around an event are the event's own in JSON.

mod json;
mod text;

use std::io;

use tracing_subscriber::{EnvFilter, fmt::MakeWriter, util::SubscriberInitExt as _};

use crate::{
    config::schema::{Log, LogFormat},
    name::HostName,
};

/// Overrides `log.level`, also for single modules.
const VARIABLE: &str = "MAGLICA_LOG";

/// Begins to log. `host` is what a host worker's lines have as `host` unless they say otherwise.
pub fn start(log: &Log, host: Option<&HostName>) {
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new(log.level.as_str()));
    match log.format {
        LogFormat::Text => text(filter, io::stderr).init(),
        LogFormat::Json => json(filter, io::stderr, host).init(),
    }
}

fn text<W>(filter: EnvFilter, to: W) -> impl tracing::Subscriber + Send + Sync
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(to)
        .with_ansi(false)
        .fmt_fields(text::Escaped)
        .finish()
}

fn json<W>(filter: EnvFilter, to: W, host: Option<&HostName>) -> impl tracing::Subscriber + Send + Sync
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(to)
        .with_ansi(false)
        .fmt_fields(json::Fields)
        .event_format(json::Lines::new(host))
        .finish()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Keeps what is logged.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Kept {
        fn lines(&self) -> Vec<String> {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
        }
    }

    const FORGED: &str = "no such pool\n2026-11-21T00:00:00Z  INFO granted job=1 \u{1b}[2J\r\u{202e}x";

    fn events() {
        let span = tracing::info_span!("job", job = "0193", peer = "SHA256:abc", late = tracing::field::Empty);
        let _in = span.enter();
        span.record("late", 7);
        tracing::warn!(error = %FORGED, left = ?["a\nb"], count = 3_u64, ok = true, "not done: {FORGED}");
        tracing::info!(job = "0194", said = FORGED, host = "other", "another");
    }

    fn filter() -> EnvFilter {
        EnvFilter::new("info")
    }

    #[test]
    fn text_has_one_line_an_event_whatever_a_peer_wrote() {
        let kept = Kept::default();
        let writer = kept.clone();
        tracing::subscriber::with_default(text(filter(), move || writer.clone()), events);
        let lines = kept.lines();
        assert_eq!(lines.len(), 2, "{lines:#?}");
        assert!(lines.iter().all(|line| !line.contains(|c: char| c.is_control() || c == '\u{202e}')), "{lines:#?}");
        assert!(lines[0].contains("job{job=\"0193\" peer=\"SHA256:abc\" late=7}"), "{lines:#?}");
        assert!(lines[0].contains("not done: no such pool\\n2026"), "{lines:#?}");
        assert!(lines[0].contains(" error=no such pool\\n2026") && lines[0].contains("\\u{1b}[2J"), "{lines:#?}");
    }

    #[test]
    fn json_has_the_fields_of_the_spans_in_the_event_and_the_nearest_counts() {
        let (kept, host) = (Kept::default(), HostName::new("host0.example.jp").unwrap());
        let writer = kept.clone();
        tracing::subscriber::with_default(json(filter(), move || writer.clone(), Some(&host)), events);
        let lines: Vec<serde_json::Value> =
            kept.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        let first = &lines[0];
        assert_eq!((&first["job"], &first["host"], &first["late"]), (&"0193".into(), &host.as_str().into(), &7.into()));
        assert_eq!((&first["level"], &first["error"], &first["count"]), (&"WARN".into(), &FORGED.into(), &3.into()));
        assert_eq!((&first["message"], &first["ok"]), (&format!("not done: {FORGED}").into(), &true.into()));
        assert_eq!((&lines[1]["job"], &lines[1]["host"]), (&"0194".into(), &"other".into()));
        assert!(first["timestamp"].as_str().unwrap().ends_with('Z') && first["target"].is_string());
        assert!(kept.lines()[0].starts_with("{\"timestamp\":"), "the moment comes first");
        assert!(kept.lines().iter().all(|line| !line.contains(char::is_control)), "{:#?}", kept.lines());
    }
}
