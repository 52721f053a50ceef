//! Text of unknown origin.

/// Longest text that is taken over from a line, in bytes.
const MAX_TEXT: usize = 512;

/// As much of it as is taken over.
pub(super) fn bounded(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_TEXT);
    text.get(..end).unwrap_or_default().to_owned()
}

/// The same, safe on a terminal.
pub(super) fn plain(text: &str) -> String {
    bounded(text).escape_default().to_string()
}
