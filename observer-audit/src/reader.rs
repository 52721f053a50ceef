//! Lines of a trail, read from files that may hold anything.

use std::io::{self, BufRead};

/// Longest line that is read, in bytes. The writer's own are far shorter.
pub(crate) const MAX_LINE: usize = 64 * 1024;

/// What a file has next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A whole line.
    Line,
    /// One that is longer than [`MAX_LINE`], cut there.
    TooLong,
    /// The end of the file came before a line feed.
    Torn,
    /// Nothing more.
    End,
}

/// Reads lines into one buffer, so that memory is bounded.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    source: R,
    line: Vec<u8>,
    /// Bytes taken from the source so far.
    offset: u64,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(source: R) -> Self {
        Self {
            source,
            line: Vec::new(),
            offset: 0,
        }
    }

    /// Reads the next line.
    pub(crate) fn advance(&mut self) -> io::Result<Next> {
        self.line.clear();
        self.advance_torn()
    }

    /// Reads the rest of a torn line: the file may have grown.
    pub(crate) fn advance_torn(&mut self) -> io::Result<Next> {
        let mut too_long = false;
        loop {
            let chunk = self.source.fill_buf()?;
            if chunk.is_empty() {
                return Ok(match (too_long, self.line.is_empty()) {
                    (true, _) => Next::TooLong,
                    (false, true) => Next::End,
                    (false, false) => Next::Torn,
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
                return Ok(if too_long { Next::TooLong } else { Next::Line });
            }
        }
    }

    /// The line last read, without its line feed.
    pub(crate) fn line(&self) -> &[u8] {
        &self.line
    }

    /// Where the next line begins, in bytes from the start.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_torn_ones_reported() {
        let mut text = b"one\n\n".to_vec();
        text.extend(vec![b'x'; MAX_LINE]);
        text.push(b'\n');
        text.extend(vec![b'y'; MAX_LINE + 1]);
        text.extend(b"\nend");
        let total = text.len() as u64;
        let mut lines = Lines::new(io::BufReader::with_capacity(100, &text[..]));
        assert_eq!(lines.advance().unwrap(), Next::Line);
        assert_eq!((lines.line(), lines.offset()), (&b"one"[..], 4));
        assert_eq!(lines.advance().unwrap(), Next::Line);
        assert!(lines.line().is_empty());
        assert_eq!(lines.advance().unwrap(), Next::Line);
        assert_eq!(lines.line().len(), MAX_LINE);
        assert_eq!(lines.advance().unwrap(), Next::TooLong);
        assert_eq!(lines.line().len(), MAX_LINE);
        assert_eq!(lines.advance().unwrap(), Next::Torn);
        assert_eq!((lines.line(), lines.offset()), (&b"end"[..], total));
    }
}
