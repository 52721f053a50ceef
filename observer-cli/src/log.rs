//! The operator's log, on stderr.

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use observer_events::format::Plain;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::output::{Output, Plan, Rank};
use crate::stream::Stream;

/// What to log, as in `OBSERVER_LOG=debug` or `OBSERVER_LOG=observer::ebpf=trace`.
const VARIABLE: &str = "OBSERVER_LOG";
const DEFAULT: &str = "info";

/// Bytes of the log that wait for its reader at most. There is always room for
/// the lines that scripts wait for.
const LIMIT: Plan = Plan {
    common: (1 << 20) - (1 << 17),
    incidents: 0,
    reserve: 1 << 17,
};

/// The log. Its lines wait in a queue: a reader of stderr that is slow delays
/// no beat.
#[derive(Clone)]
pub(crate) struct Log(Output);

impl Log {
    /// Starts the log. A filter that cannot be parsed is logged and not used.
    ///
    /// # Errors
    /// If there can be no thread that writes it.
    pub(crate) fn start() -> anyhow::Result<Self> {
        // A closed stderr is no reason to stop observing.
        let (output, _failure) = Output::start(Stream::Stderr, LIMIT, None)?;
        let log = Self(output);
        let (filter, error) = filter();
        tracing_subscriber::fmt()
            .compact()
            .with_env_filter(filter)
            .with_ansi(Stream::Stderr.color())
            // It would panic where stderr is gone.
            .log_internal_errors(false)
            .with_writer(log.clone())
            .init();
        if let Some(error) = error {
            tracing::warn!("{VARIABLE} is ignored: {error}");
        }
        Ok(log)
    }

    /// Writes a line that scripts wait for.
    pub(crate) fn write_line(&self, line: fmt::Arguments<'_>) {
        let Self(output) = self;
        output.push(format!("{line}\n").as_bytes(), Rank::Own);
        output.flush();
    }

    /// Lines that found the queue full.
    pub(crate) fn lost(&self) -> u64 {
        let Self(output) = self;
        output.lost()
    }

    /// Waits until the reader has all of it, or for as long as this.
    pub(crate) fn drain(&self, patience: Duration) {
        let Self(output) = self;
        output.drain(patience);
    }
}

fn filter() -> (EnvFilter, Option<tracing_subscriber::filter::ParseError>) {
    let wanted = std::env::var_os(VARIABLE);
    let wanted = wanted.as_ref().map(|text| text.to_string_lossy());
    let wanted = wanted
        .as_deref()
        .filter(|text| !text.is_empty())
        .unwrap_or(DEFAULT);
    match EnvFilter::try_new(wanted) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(DEFAULT), Some(error)),
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        let Self(output) = self;
        Line(output.clone())
    }
}

/// A line with what does not print escaped, except for its colours. In what was
/// logged `tracing_subscriber` has escaped ESC already.
fn printable(line: &[u8], color: bool) -> String {
    let line = String::from_utf8_lossy(line);
    let (text, end) = match line.strip_suffix('\n') {
        Some(text) => (text, "\n"),
        None => (&*line, ""),
    };
    if !color {
        return format!("{}{end}", Plain(text));
    }
    let pieces = text.split('\x1b').map(|piece| Plain(piece).to_string());
    pieces.collect::<Vec<_>>().join("\x1b") + end
}

/// Takes one line, which is written at once.
pub(crate) struct Line(Output);

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Self(output) = self;
        let text = printable(line, Stream::Stderr.color());
        output.push(text.as_bytes(), Rank::Common);
        output.flush();
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
