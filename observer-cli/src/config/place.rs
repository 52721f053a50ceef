//! Places in a configuration file.

use std::fmt;

use serde::Serialize;

/// A line and a column, both counted from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// What is wrong at one place of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) place: Place,
    pub(super) reason: String,
}

impl Place {
    const BEGIN: Self = Self { line: 1, column: 1 };

    /// The place so many bytes from the begin of a text.
    pub(super) fn of(text: &str, offset: usize) -> Self {
        Places::new(text).of(offset)
    }

    /// The place behind this text, which begins here.
    fn behind(self, text: &[u8]) -> Self {
        text.iter().fold(self, |Self { line, column }, byte| {
            let (line, column) = match byte {
                b'\n' => (line.saturating_add(1), 1),
                // Not the first byte of a character.
                0x80..=0xbf => (line, column),
                _ => (line, column.saturating_add(1)),
            };
            Self { line, column }
        })
    }
}

/// The places in a text. It goes through the text once for those that come one
/// after the other.
pub(super) struct Places<'a> {
    text: &'a [u8],
    /// The last that was asked for.
    offset: usize,
    place: Place,
}

impl<'a> Places<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text: text.as_bytes(),
            offset: 0,
            place: Place::BEGIN,
        }
    }

    /// The place so many bytes from the begin.
    pub(super) fn of(&mut self, offset: usize) -> Place {
        let offset = offset.min(self.text.len());
        if offset < self.offset {
            (self.offset, self.place) = (0, Place::BEGIN);
        }
        let between = self.text.get(self.offset..offset).unwrap_or_default();
        self.place = self.place.behind(between);
        self.offset = offset;
        self.place
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column } = self;
        write!(f, "{line}:{column}")
    }
}

/// A word of the file in a message: whoever wrote it, it is short, and on one
/// line.
pub(super) fn quoted(word: &str) -> String {
    const MOST: usize = 64;
    let mut characters = word.chars();
    let begin: String = characters.by_ref().take(MOST).collect();
    let rest = if characters.next().is_some() {
        "..."
    } else {
        ""
    };
    format!("`{}{rest}`", begin.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one() {
        let text = "a = 1\n\u{e4}\u{20ac} = 2\n";
        let mut places = Places::new(text);
        for (offset, line, column) in [
            (0, 1, 1),
            (5, 1, 6),
            (6, 2, 1),
            (8, 2, 2),
            (11, 2, 3),
            (16, 3, 1),
            (99, 3, 1),
            (6, 2, 1),
            (6, 2, 1),
        ] {
            let place = Place { line, column };
            assert_eq!(Place::of(text, offset), place, "{offset}");
            assert_eq!(places.of(offset), place, "{offset}");
        }
        assert_eq!(Place::of("", 0), Place { line: 1, column: 1 });
    }

    #[test]
    fn words_of_the_file_stay_short_and_on_one_line() {
        assert_eq!(quoted("a\nb\u{1b}"), "`a\\nb\\u{1b}`");
        assert_eq!(quoted(&"x".repeat(1 << 20)).len(), 64 + 5);
    }
}
