//! Text of any origin as text that is safe to show.

use std::fmt::{self, Display, Write};

/// Shows a value with everything escaped that does not print: control
/// characters (U+009B begins an escape sequence as ESC does), line separators,
/// and characters that change the direction of the text or are invisible.
///
/// ```
/// use observer_events::format::Plain;
///
/// assert_eq!(Plain("caf\u{e9}\u{9b}2J\u{202e}\n").to_string(), r"café\u{9b}2J\u{202e}\n");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Plain<T>(pub T);

impl<T: Display> Display for Plain<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(text) = self;
        write!(Escaping(f), "{text}")
    }
}

struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let Self(out) = self;
        for piece in text.split_inclusive(|c| !prints(c)) {
            let mut chars = piece.chars();
            match chars.next_back() {
                Some(last) if !prints(last) => {
                    out.write_str(chars.as_str())?;
                    write!(out, "{}", last.escape_debug())?;
                }
                _ => out.write_str(piece)?,
            }
        }
        Ok(())
    }
}

/// Whether a character shows as itself. `escape_debug` knows Unicode's
/// categories: what is of Cc, Cf, Zl, Zp, not assigned, or combines with the
/// character before it, it escapes.
fn prints(c: char) -> bool {
    match c {
        ' '..='~' => true,
        '\0'..='\u{9f}' => false,
        _ => c.escape_debug().eq([c]),
    }
}

#[cfg(test)]
mod tests {
    use super::Plain;

    #[test]
    fn nothing_that_does_not_print_is_left() {
        let controls = ('\0'..='\u{1f}').chain('\u{7f}'..='\u{9f}');
        let bidirectional = "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\
                             \u{2066}\u{2067}\u{2068}\u{2069}";
        let others = "\u{200b}\u{2028}\u{2029}\u{feff}\u{e0001}";
        for c in controls.chain(bidirectional.chars()).chain(others.chars()) {
            let shown = Plain(format!("a{c}b")).to_string();
            assert!(shown.is_ascii(), "{c:?} {shown}");
            assert!(!shown.contains(|c: char| c.is_ascii_control()), "{c:?}");
            assert!(shown.starts_with("a\\") && shown.ends_with('b'), "{shown}");
        }
    }

    #[test]
    fn what_prints_is_as_it_was() {
        for text in ["", "a \"b\" 'c' \\ ~", "größer 温度 😀"] {
            assert_eq!(Plain(text).to_string(), text);
        }
    }
}
