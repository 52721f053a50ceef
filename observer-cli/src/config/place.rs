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
    /// The place so many bytes from the begin of a text.
    pub(super) fn of(text: &str, offset: usize) -> Self {
        let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
        let line = before.split(|&byte| byte == b'\n');
        let last = line.clone().next_back().map(String::from_utf8_lossy);
        let characters = last.map_or(0, |last| last.chars().count());
        Self {
            line: line.count(),
            column: characters.saturating_add(1),
        }
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
        for (offset, line, column) in [
            (0, 1, 1),
            (5, 1, 6),
            (6, 2, 1),
            (8, 2, 2),
            (11, 2, 3),
            (16, 3, 1),
            (99, 3, 1),
        ] {
            assert_eq!(Place::of(text, offset), Place { line, column }, "{offset}");
        }
        assert_eq!(Place::of("", 0), Place { line: 1, column: 1 });
    }

    #[test]
    fn words_of_the_file_stay_short_and_on_one_line() {
        assert_eq!(quoted("a\nb\u{1b}"), "`a\\nb\\u{1b}`");
        assert_eq!(quoted(&"x".repeat(1 << 20)).len(), 64 + 5);
    }
}
