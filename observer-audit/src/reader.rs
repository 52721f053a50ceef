//! Lines of a trail, read from files that nobody vouches for.

use std::io::{self, BufRead};

/// Longest line that is read, in bytes. The writer's own stay far below; what
/// is longer was not written by it.
pub const MAX_LINE: usize = 64 * 1024;

/// What stands on a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A whole line, now in the buffer without its line feed.
    Line,
    /// One that is longer than [`MAX_LINE`]; its beginning is in the buffer.
    TooLong,
    /// The end of the file came before a line feed.
    Torn,
    /// Nothing.
    End,
}

/// Reads lines with bounded memory.
#[derive(Debug)]
pub(super) struct Lines<R> {
    source: R,
    line: Vec<u8>,
    /// Bytes taken from the source so far.
    offset: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(source: R) -> Self {
        Self {
            source,
            line: Vec::new(),
            offset: 0,
        }
    }

    /// Reads the next line.
    pub(super) fn advance(&mut self) -> io::Result<Found> {
        self.line.clear();
        self.more()
    }

    /// Goes on with a torn line: the file may have grown.
    pub(super) fn more(&mut self) -> io::Result<Found> {
        let mut too_long = false;
        loop {
            let chunk = self.source.fill_buf()?;
            if chunk.is_empty() {
                return Ok(match (too_long, self.line.is_empty()) {
                    (true, _) => Found::TooLong,
                    (false, true) => Found::End,
                    (false, false) => Found::Torn,
                });
            }
            let end = chunk.iter().position(|&byte| byte == b'\n');
            let part = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
            let room = MAX_LINE.saturating_sub(self.line.len());
            too_long |= part.len() > room;
            self.line
                .extend_from_slice(part.get(..room).unwrap_or(part));
            let taken = part.len().saturating_add(usize::from(end.is_some()));
            self.source.consume(taken);
            self.offset = self.offset.saturating_add(taken as u64);
            if end.is_some() {
                return Ok(if too_long {
                    Found::TooLong
                } else {
                    Found::Line
                });
            }
        }
    }

    /// The line last read, without its line feed.
    pub(super) fn line(&self) -> &[u8] {
        &self.line
    }

    /// Where the next line begins, in bytes from the start.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_torn_ones_told() {
        let mut text = b"one\n\n".to_vec();
        text.extend(vec![b'x'; MAX_LINE]);
        text.push(b'\n');
        text.extend(vec![b'y'; MAX_LINE + 1]);
        text.extend(b"\nend");
        let total = text.len() as u64;
        let mut lines = Lines::new(io::BufReader::with_capacity(100, &text[..]));
        assert_eq!(lines.advance().unwrap(), Found::Line);
        assert_eq!((lines.line(), lines.offset()), (&b"one"[..], 4));
        assert_eq!(lines.advance().unwrap(), Found::Line);
        assert!(lines.line().is_empty());
        assert_eq!(lines.advance().unwrap(), Found::Line);
        assert_eq!(lines.line().len(), MAX_LINE);
        assert_eq!(lines.advance().unwrap(), Found::TooLong);
        assert_eq!(lines.line().len(), MAX_LINE);
        assert_eq!(lines.advance().unwrap(), Found::Torn);
        assert_eq!((lines.line(), lines.offset()), (&b"end"[..], total));
    }
}
