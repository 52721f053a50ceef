//! Where events go once the observer has found them.
//!
//! A [`Sink`] turns events into text and keeps it until its owner writes it
//! out: formatting never fails and never waits. What is ready at once is
//! collected first and leaves in one write.

use bytes::BytesMut;

use crate::event::Event;

mod human;
mod json;
mod plain;

pub use json::Ascii;
pub use json::write_json;
pub use plain::Plain;

/// How an event reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line, pure ASCII.
    Json,
    /// One aligned line an event, for reading along. No byte that a sender
    /// chose reaches the terminal unescaped.
    Human {
        /// Whether the output understands ANSI colours.
        color: bool,
    },
}

/// Formats events into a buffer.
///
/// ```
/// use observer_events::event::{DecodeError, Event};
/// use observer_events::format::{Format, Sink};
///
/// let mut sink = Sink::new(Format::Json);
/// sink.event(&Event::Decode(DecodeError::BadMagic, 7, None, None));
/// assert_eq!(
///     &sink.buffer()[..],
///     b"{\"event\":\"decode\",\"error\":\"BadMagic\",\"detail\":\"bad magic\",\
///       \"observer_ns\":7,\"sender\":null}\n",
/// );
/// ```
#[derive(Debug)]
pub struct Sink {
    format: Format,
    buffer: BytesMut,
}

impl Sink {
    /// An empty sink.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self {
            format,
            buffer: BytesMut::new(),
        }
    }

    /// Adds one event to the buffer: whole lines only.
    pub fn event(&mut self, event: &Event) {
        let Self { format, buffer } = self;
        match *format {
            Format::Json => json::write(buffer, event),
            Format::Human { color } => human::write(buffer, event, color),
        }
    }

    /// What is to be written. The owner takes off the front what it has
    /// written; there is no bound but the owner's diligence.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }
}

#[cfg(test)]
mod tests;
