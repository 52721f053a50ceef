//! A line's outer form: what comes before and after its content.
//!
//! `{"seq":N,"epoch":N,"prev":"MAC","time":"RFC 3339",` ... `,"mac":"MAC"}`.
//! The MAC is over bytes, not over their meaning, so the reader accepts exactly
//! this form and no other.

use std::io::Write as _;

use jiff::Timestamp;
use observer_events::format::Ascii;
use serde::Serialize;

use crate::chain::{LEN, LineKey, Link};

const BEFORE_MAC: &[u8] = b",\"mac\":\"";
const AFTER_MAC: &[u8] = b"\"}";
/// Length of `,"mac":"…"}`.
const TAIL: usize = BEFORE_MAC.len() + 2 * LEN + AFTER_MAC.len();

/// A place in the trail: where the next line goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The next line's number; the first is 1.
    pub(crate) seq: u64,
    /// The next line's epoch; the first is 0.
    pub(crate) epoch: u64,
    /// MAC of the line before.
    pub(crate) prev: Link,
}

impl Position {
    /// Where every trail begins.
    pub(crate) const START: Self = Self {
        seq: 1,
        epoch: 0,
        prev: Link([0; LEN]),
    };

    /// The place after a line of this epoch.
    pub(crate) fn after(self, link: Link) -> Self {
        Self {
            seq: self.seq.saturating_add(1),
            epoch: self.epoch,
            prev: link,
        }
    }
}

/// How a line at this place begins, up to its time.
pub(crate) fn beginning(at: Position) -> String {
    let Position { seq, epoch, prev } = at;
    format!("{{\"seq\":{seq},\"epoch\":{epoch},\"prev\":\"{prev}\",\"time\":\"")
}

/// Appends one line to the buffer; returns its MAC.
pub(crate) fn write(
    buffer: &mut Vec<u8>,
    at: Position,
    time: Timestamp,
    content: &impl Serialize,
    key: &LineKey,
) -> Link {
    let start = buffer.len();
    buffer.extend_from_slice(beginning(at).as_bytes());
    // Writing to memory cannot fail: a vector grows.
    write!(buffer, "{time:.9}\"").unwrap_or_default();
    let inner = buffer.len();
    let mut serializer = serde_json::Serializer::with_formatter(&mut *buffer, Ascii);
    if content.serialize(&mut serializer).is_ok() {
        // Its object becomes part of this one.
        if let Some(brace) = buffer.get_mut(inner) {
            *brace = b',';
        }
        buffer.pop();
    } else {
        // No content fails to serialize. Should one ever do, its line keeps
        // its place in the chain and is marked.
        buffer.truncate(inner);
        buffer.extend_from_slice(b",\"kind\":\"unwritable\"");
    }
    let link = key.link(buffer.get(start..).unwrap_or_default());
    buffer.extend_from_slice(BEFORE_MAC);
    write!(buffer, "{link}").unwrap_or_default();
    buffer.extend_from_slice(AFTER_MAC);
    buffer.push(b'\n');
    link
}

/// A line taken apart; nothing of it is verified yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parsed<'a> {
    pub(crate) seq: u64,
    pub(crate) epoch: u64,
    pub(crate) prev: Link,
    pub(crate) mac: Link,
    /// What the MAC is over.
    pub(crate) body: &'a [u8],
}

impl<'a> Parsed<'a> {
    /// Takes a line without its line feed apart; `None` if it has another
    /// form.
    pub(crate) fn new(line: &'a [u8]) -> Option<Self> {
        let (body, tail) = line.split_at_checked(line.len().checked_sub(TAIL)?)?;
        let mac = tail.strip_prefix(BEFORE_MAC)?.strip_suffix(AFTER_MAC)?;
        let (seq, rest) = number(body.strip_prefix(b"{\"seq\":")?)?;
        let (epoch, rest) = number(rest.strip_prefix(b",\"epoch\":")?)?;
        let (prev, rest) = rest
            .strip_prefix(b",\"prev\":\"")?
            .split_at_checked(2 * LEN)?;
        rest.strip_prefix(b"\",\"time\":\"")?;
        Some(Self {
            seq,
            epoch,
            prev: Link::from_hex(prev)?,
            mac: Link::from_hex(mac)?,
            body,
        })
    }

    /// Where the line claims to belong.
    pub(crate) fn position(&self) -> Position {
        Position {
            seq: self.seq,
            epoch: self.epoch,
            prev: self.prev,
        }
    }

    /// Whether a line that this program wrote is of that kind, which comes
    /// right after the time.
    pub(crate) fn is_kind(&self, kind: &str) -> bool {
        // `,"kind":"` cannot occur in any string before: those have no quotes.
        const MARK: &[u8] = b",\"kind\":\"";
        let at = self.body.windows(MARK.len()).position(|part| part == MARK);
        at.and_then(|at| self.body.get(at.saturating_add(MARK.len())..))
            .and_then(|rest| rest.strip_prefix(kind.as_bytes()))
            .is_some_and(|rest| rest.starts_with(b"\""))
    }
}

/// Number of the first of some lines.
pub(crate) fn first_seq(lines: &[u8]) -> Option<u64> {
    let line = lines.split(|&byte| byte == b'\n').next()?;
    Some(Parsed::new(line)?.seq)
}

/// A decimal number and what follows it.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at_checked(digits)?;
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((number, rest))
}
