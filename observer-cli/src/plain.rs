//! What may be written to a terminal: text and line feeds.

use std::fmt;
use std::io::{self, Write};

use observer_events::format::{Plain, write_json};
use serde::Serialize;

/// A writer that escapes what does not print, line feeds aside.
pub(crate) struct PlainText<W>(pub(crate) W);

impl<W: Write> Write for PlainText<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self(out) = self;
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, end) = match line.strip_suffix(b"\n") {
                Some(text) => (text, "\n"),
                None => (line, ""),
            };
            write!(out, "{}{end}", Plain(String::from_utf8_lossy(text)))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let Self(out) = self;
        out.flush()
    }
}

/// Writes a JSON document on a line, as ASCII that prints.
pub(crate) fn write_document(out: &mut impl Write, document: &impl Serialize) -> io::Result<()> {
    write_json(&mut *out, document)?;
    writeln!(out)
}

/// Writes a line to stderr. If that fails, there is nothing left to do about it.
pub(crate) fn write_to_stderr(line: fmt::Arguments<'_>) {
    writeln!(PlainText(io::stderr()), "{line}").unwrap_or_default();
}

/// A reader that stops reading, such as `head`, is no failure.
pub(crate) fn ignore_broken_pipe(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
