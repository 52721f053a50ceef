//! Reports as JSON lines.

use std::{io, net::SocketAddr};

use bytes::{BufMut as _, BytesMut};
use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;

use crate::{
    event::{Attestation, AuthFailureCause, BeatOrigin, DecodeError, Event},
    report::Observation,
};

/// Appends one line.
pub(super) fn write(buffer: &mut BytesMut, report: &impl Serialize) {
    let before = buffer.len();
    let mut serializer = serde_json::Serializer::with_formatter(buffer.writer(), Ascii);
    if report.serialize(&mut serializer).is_err() {
        // A buffer in memory takes everything and no value here refuses to be
        // serialised; should one ever do, half a line must not go out.
        buffer.truncate(before);
        return;
    }
    buffer.put_u8(b'\n');
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Fields::from(self).serialize(serializer)
    }
}

impl Serialize for Observation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// `sender` is there where an event has one, be it unknown; `source`
        /// for datagrams that came by UDP only.
        #[derive(Serialize)]
        struct Line<'a> {
            #[serde(flatten)]
            event: Fields<'a>,
            #[serde(skip_serializing_if = "Option::is_none")]
            sender: Option<&'a Option<Attestation>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            source: Option<SocketAddr>,
        }
        let Self { event, evidence } = self;
        let has_sender = !matches!(event, Event::Io(..));
        let line = Line {
            event: event.into(),
            sender: has_sender.then_some(&evidence.sender),
            source: evidence.source,
        };
        line.serialize(serializer)
    }
}

/// The shape of an event on the line. Its names are a contract.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Fields<'a> {
    Beat {
        pid: u32,
        status: &'static str,
        payload: u32,
        nonce: u64,
        origin: BeatOrigin,
        pid_ns_inode: Option<u64>,
        observer_ns: u64,
    },
    Stall {
        pid: u32,
        last_nonce: u64,
        last_ns: u64,
        origin: BeatOrigin,
        pid_ns_inode: Option<u64>,
        observer_ns: u64,
    },
    Decode {
        error: &'static str,
        #[serde(serialize_with = "display")]
        detail: &'a DecodeError,
        observer_ns: u64,
    },
    AuthFailure {
        claimed_pid: u32,
        cause: AuthFailureCause,
        observer_ns: u64,
    },
    OriginConflict {
        claimed_pid: u32,
        observed_origin: BeatOrigin,
        slot_origin: BeatOrigin,
        observer_ns: u64,
    },
    NamespaceConflict {
        claimed_pid: u32,
        observed_ns_inode: Option<u64>,
        observer_ns_inode: Option<u64>,
        observer_ns: u64,
    },
    Io {
        #[serde(serialize_with = "display")]
        error: &'a io::Error,
        errno: Option<i32>,
        observer_ns: u64,
    },
    CtrlTruncated {
        #[serde(serialize_with = "display")]
        error: &'a io::Error,
        observer_ns: u64,
    },
}

impl<'a> From<&'a Event> for Fields<'a> {
    fn from(event: &'a Event) -> Self {
        // Every field is named, so that a new one cannot be forgotten here.
        match *event {
            Event::Beat {
                pid,
                status,
                payload,
                nonce,
                origin,
                pid_ns_inode,
                observer_ns,
            } => Self::Beat {
                pid,
                status: status.name(),
                payload,
                nonce,
                origin,
                pid_ns_inode,
                observer_ns,
            },
            Event::Stall {
                pid,
                last_nonce,
                last_ns,
                origin,
                pid_ns_inode,
                observer_ns,
            } => Self::Stall {
                pid,
                last_nonce,
                last_ns,
                origin,
                pid_ns_inode,
                observer_ns,
            },
            Event::Decode(ref detail, observer_ns) => Self::Decode {
                error: detail.name(),
                detail,
                observer_ns,
            },
            Event::AuthFailure {
                claimed_pid,
                observer_ns,
                cause,
            } => Self::AuthFailure {
                claimed_pid,
                cause,
                observer_ns,
            },
            Event::OriginConflict {
                claimed_pid,
                observed_origin,
                slot_origin,
                observer_ns,
            } => Self::OriginConflict {
                claimed_pid,
                observed_origin,
                slot_origin,
                observer_ns,
            },
            Event::NamespaceConflict {
                claimed_pid,
                observed_ns_inode,
                observer_ns_inode,
                observer_ns,
            } => Self::NamespaceConflict {
                claimed_pid,
                observed_ns_inode,
                observer_ns_inode,
                observer_ns,
            },
            Event::Io(ref error, observer_ns) => Self::Io {
                error,
                errno: error.raw_os_error(),
                observer_ns,
            },
            Event::CtrlTruncated(ref error, observer_ns) => {
                Self::CtrlTruncated { error, observer_ns }
            }
        }
    }
}

fn display<T: std::fmt::Display, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
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
pub struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
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
