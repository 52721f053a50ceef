//! The operator's log, on stderr.

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use observer_events::format::Plain;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::format::{Compact, DefaultFields, Format};
use tracing_subscriber::fmt::{Formatter, MakeWriter};
use tracing_subscriber::{EnvFilter, reload};

use crate::output::{Output, Plan, Rank};
use crate::stream::Stream;

/// The level of what a filter does not name.
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
pub(crate) struct Log {
    output: Output,
    filter: Handle,
}

/// Where the filter in force is.
type Handle = reload::Handle<EnvFilter, Formatter<DefaultFields, Format<Compact>, Writer>>;

/// What to log: a level, or `TARGET=LEVEL` for one module, or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter(String);

/// Writes the lines of `tracing`.
#[derive(Clone)]
pub(crate) struct Writer(Output);

impl Log {
    /// Starts the log.
    ///
    /// # Errors
    /// If there can be no thread that writes it.
    pub(crate) fn start(filter: &Filter) -> anyhow::Result<Self> {
        // A closed stderr is no reason to stop observing.
        let (output, _failure) = Output::start(Stream::Stderr, LIMIT, None)?;
        let builder = tracing_subscriber::fmt()
            .compact()
            .with_ansi(Stream::Stderr.color())
            // It would panic where stderr is gone.
            .log_internal_errors(false)
            .with_writer(Writer(output.clone()))
            .with_env_filter(filter.build()?)
            .with_filter_reloading();
        let filter = builder.reload_handle();
        builder.init();
        Ok(Self { output, filter })
    }

    /// Logs by another filter from now on.
    ///
    /// # Errors
    /// If it is none; the one before is in force then.
    pub(crate) fn set_filter(&self, filter: &Filter) -> anyhow::Result<()> {
        Ok(self.filter.reload(filter.build()?)?)
    }

    /// Writes a line that scripts wait for.
    pub(crate) fn write_line(&self, line: fmt::Arguments<'_>) {
        let Self { output, .. } = self;
        output.push(format!("{line}\n").as_bytes(), Rank::Own);
        output.flush();
    }

    /// Lines that found the queue full.
    pub(crate) fn lost(&self) -> u64 {
        self.output.lost()
    }

    /// Waits until the reader has all of it, or for as long as this.
    pub(crate) fn drain(&self, patience: Duration) {
        self.output.drain(patience);
    }
}

impl Filter {
    /// All that is not named is logged by default.
    fn build(&self) -> Result<EnvFilter, ParseError> {
        let Self(wanted) = self;
        EnvFilter::try_new(format!("{DEFAULT},{wanted}"))
    }
}

/// A word that is no level would be a target to `EnvFilter`, and with no target
/// of that name nothing would be logged: not that the observer was degraded,
/// nor that it loses events.
pub(crate) fn parse_filter(wanted: &str) -> Result<Filter, String> {
    let refuse = |what: String| {
        format!(
            "{what}; give a level (off, error, warn, info, debug, trace), or TARGET=LEVEL as in \
             observer::ebpf=trace, or several with commas"
        )
    };
    let is_odd = |part: &&str| {
        let is_level = part.parse::<LevelFilter>().is_ok();
        !part.is_empty() && !is_level && !part.contains(['=', '[', ']', '{', '}'])
    };
    if let Some(part) = wanted.split(',').map(str::trim).find(is_odd) {
        return Err(refuse(format!("{part} is no level")));
    }
    let filter = Filter(wanted.to_owned());
    match filter.build() {
        Ok(_) => Ok(filter),
        Err(error) => Err(refuse(error.to_string())),
    }
}

impl<'a> MakeWriter<'a> for Writer {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_level_is_refused() {
        for good in [
            "",
            "debug",
            "WARN",
            "off",
            "info,",
            "observer=debug,warn",
            "a[b{c=d}]=info",
        ] {
            assert!(parse_filter(good).is_ok(), "{good}");
        }
        for bad in [
            "bogus",
            "observer",
            "info,bogus",
            "observer=bogus",
            "a=b=c",
            "inf o",
        ] {
            let reason = parse_filter(bad).unwrap_err();
            assert!(reason.contains("TARGET=LEVEL"), "{bad}: {reason}");
        }
    }

    #[test]
    fn a_target_that_is_named_silences_no_other() {
        let shown = |wanted| parse_filter(wanted).unwrap().build().unwrap().to_string();
        assert_eq!(shown("observer::ebpf=trace"), "observer::ebpf=trace,info");
        assert_eq!(shown("warn"), "warn");
    }
}
