//! Reports as JSON lines.

use std::fmt::Display;
use std::io;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;

use crate::event::Event;
use crate::report::Observation;

/// Appends one line.
pub(super) fn write(buffer: &mut Vec<u8>, report: &impl Serialize, form: impl Formatter) {
    let before = buffer.len();
    let mut serializer = serde_json::Serializer::with_formatter(&mut *buffer, form);
    if report.serialize(&mut serializer).is_err() {
        // A buffer in memory takes everything and no value here refuses to be
        // serialised; should one ever do, half a line must not go out.
        buffer.truncate(before);
        return;
    }
    buffer.push(b'\n');
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut line = serializer.serialize_map(None)?;
        add_fields(&mut line, self)?;
        line.end()
    }
}

/// `sender` is there where an event has one, be it unknown; `source` for
/// datagrams that came by UDP only.
impl Serialize for Observation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { event, evidence } = self;
        let mut line = serializer.serialize_map(None)?;
        add_fields(&mut line, event)?;
        if !matches!(event, Event::Io(..)) {
            line.serialize_entry("sender", &evidence.sender)?;
        }
        if let Some(source) = &evidence.source {
            line.serialize_entry("source", source)?;
        }
        line.end()
    }
}

/// The shape of an event on the line. Its names are a contract; all fields are
/// named here, so that a new one cannot be forgotten.
fn add_fields<M: SerializeMap>(line: &mut M, event: &Event) -> Result<(), M::Error> {
    line.serialize_entry("event", event.name())?;
    match event {
        Event::Beat {
            pid,
            status,
            payload,
            nonce,
            origin,
            pid_ns_inode,
            observer_ns: _,
        } => {
            line.serialize_entry("pid", pid)?;
            line.serialize_entry("status", status.name())?;
            line.serialize_entry("payload", payload)?;
            line.serialize_entry("nonce", nonce)?;
            line.serialize_entry("origin", origin)?;
            line.serialize_entry("pid_ns_inode", pid_ns_inode)?;
        }
        Event::Stall {
            pid,
            last_nonce,
            last_ns,
            origin,
            pid_ns_inode,
            observer_ns: _,
        } => {
            line.serialize_entry("pid", pid)?;
            line.serialize_entry("last_nonce", last_nonce)?;
            line.serialize_entry("last_ns", last_ns)?;
            line.serialize_entry("origin", origin)?;
            line.serialize_entry("pid_ns_inode", pid_ns_inode)?;
        }
        Event::Decode(error, _) => {
            line.serialize_entry("error", error.name())?;
            line.serialize_entry("error_code", error.code())?;
            line.serialize_entry("detail", &AsText(error))?;
        }
        Event::AuthFailure {
            claimed_pid,
            cause,
            observer_ns: _,
        } => {
            line.serialize_entry("claimed_pid", claimed_pid)?;
            line.serialize_entry("cause", cause)?;
        }
        Event::OriginConflict {
            claimed_pid,
            observed_origin,
            slot_origin,
            observer_ns: _,
        } => {
            line.serialize_entry("claimed_pid", claimed_pid)?;
            line.serialize_entry("observed_origin", observed_origin)?;
            line.serialize_entry("slot_origin", slot_origin)?;
        }
        Event::NamespaceConflict {
            claimed_pid,
            observed_ns_inode,
            observer_ns_inode,
            observer_ns: _,
        } => {
            line.serialize_entry("claimed_pid", claimed_pid)?;
            line.serialize_entry("observed_ns_inode", observed_ns_inode)?;
            line.serialize_entry("observer_ns_inode", observer_ns_inode)?;
        }
        Event::Io(error, _) => {
            line.serialize_entry("error", &AsText(error))?;
            line.serialize_entry("errno", &error.raw_os_error())?;
        }
        Event::CtrlTruncated(error, _) => line.serialize_entry("error", &AsText(error))?,
    }
    line.serialize_entry("observer_ns", &event.observer_ns())
}

/// A value as it is displayed.
struct AsText<'a, T>(&'a T);

impl<T: Display> Serialize for AsText<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self.0)
    }
}

/// Writes a document as compact JSON of nothing but printable ASCII.
///
/// # Errors
/// What the writer fails with, or that the document is none in JSON.
pub fn write_json(out: impl io::Write, document: &impl Serialize) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(out, Ascii);
    Ok(document.serialize(&mut serializer)?)
}

/// Compact JSON with everything beyond printable ASCII escaped. It means the
/// same to a parser, and a terminal that shows it meets no control character
/// that a sender put into its name (U+009B starts an escape sequence too).
#[derive(Clone, Copy, Debug)]
pub struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        // As nearly all are.
        if fragment.bytes().all(|byte| is_plain(char::from(byte))) {
            return writer.write_all(fragment.as_bytes());
        }
        for piece in fragment.split_inclusive(|c: char| !is_plain(c)) {
            let mut chars = piece.chars();
            match chars.next_back() {
                Some(last) if !is_plain(last) => {
                    writer.write_all(chars.as_str().as_bytes())?;
                    write_escape(writer, last)?;
                }
                _ => writer.write_all(piece.as_bytes())?,
            }
        }
        Ok(())
    }
}

/// [`Ascii`], with numbers of 64 bits as strings.
#[derive(Clone, Copy, Debug)]
pub(super) struct TextNumbers;

impl Formatter for TextNumbers {
    fn write_u64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: u64) -> io::Result<()> {
        write!(writer, "\"{value}\"")
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        Ascii.write_string_fragment(writer, fragment)
    }
}

fn is_plain(c: char) -> bool {
    c == ' ' || c.is_ascii_graphic()
}

fn write_escape<W: ?Sized + io::Write>(writer: &mut W, c: char) -> io::Result<()> {
    let mut units = [0; 2];
    for unit in c.encode_utf16(&mut units) {
        write!(writer, "\\u{unit:04x}")?;
    }
    Ok(())
}
