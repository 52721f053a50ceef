//! How reports read, as JSON and for people.
//!
//! A [`Formatter`] turns reports into text and keeps it until its owner writes
//! it out: formatting never fails and never waits. What is ready at once is
//! collected first and leaves in one write.

use crate::report::Report;

mod human;
mod json;
mod plain;
mod words;

use json::TextNumbers;
pub use json::{Ascii, write_json};
pub use plain::Plain;
pub use words::{Count, Nonce};

/// How a report reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line, pure ASCII.
    Json,
    /// The same with all fields of 64 bits as strings, for readers that have no
    /// integers beyond 2^53: JavaScript, and jq before 1.7.
    JsonTextNumbers,
    /// One aligned line a report, for reading along. No byte that a sender
    /// chose reaches the terminal unescaped.
    Human {
        /// Whether the output understands ANSI colours.
        color: bool,
    },
}

/// Formats reports into a buffer.
///
/// ```
/// use observer_events::event::{DecodeError, Event};
/// use observer_events::format::{Format, Formatter};
/// use observer_events::{Evidence, Observation, Report};
///
/// let mut formatter = Formatter::new(Format::Json);
/// formatter.report(&Report::Observation(Observation {
///     event: Event::Decode(DecodeError::BadMagic, 7),
///     evidence: Evidence::default(),
/// }));
/// assert_eq!(
///     &formatter.buffer()[..],
///     b"{\"event\":\"decode\",\"error\":\"BadMagic\",\"error_code\":\"bad_magic\",\
///       \"detail\":\"bad magic\",\"observer_ns\":7,\"sender\":null}\n",
/// );
/// ```
#[derive(Debug)]
pub struct Formatter {
    format: Format,
    buffer: Vec<u8>,
}

impl Formatter {
    /// An empty one.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self {
            format,
            buffer: Vec::new(),
        }
    }

    /// Adds one report to the buffer: whole lines only.
    pub fn report(&mut self, report: &Report) {
        let Self { format, buffer } = self;
        match (*format, report) {
            (Format::Json, Report::Observation(observation)) => {
                json::write(buffer, observation, Ascii);
            }
            (Format::Json, Report::Notice(notice)) => json::write(buffer, notice, Ascii),
            (Format::JsonTextNumbers, Report::Observation(observation)) => {
                json::write(buffer, observation, TextNumbers);
            }
            (Format::JsonTextNumbers, Report::Notice(notice)) => {
                json::write(buffer, notice, TextNumbers);
            }
            (Format::Human { color }, report) => human::write(buffer, report, color),
        }
    }

    /// What is to be written. The owner takes off the front what it has
    /// written; there is no bound but the owner's diligence.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }
}

#[cfg(test)]
mod tests;
