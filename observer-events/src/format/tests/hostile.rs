//! What a sender chose never reaches a terminal as it is.

use serde_json::json;

use super::samples::{auth_failure, evil, human, object, render, sender};
use super::*;

#[test]
fn hostile_names_stay_text() {
    let cases: [(&[u8], &str, &str); 4] = [
        (b"\x1b[2J\x07", r"\x1b[2J\x07", "\x1b[2J\x07"),
        (b"a\"b'\n\\{", r#"a\"b\'\n\\{"#, "a\"b'\n\\{"),
        (
            b"\xff\xfe\x80ok",
            r"\xff\xfe\x80ok",
            "\u{fffd}\u{fffd}\u{fffd}ok",
        ),
        // U+009B is CSI in one character; the other reverses the text.
        (
            "\u{9b}2J\u{202e}\u{1f600}\x7f".as_bytes(),
            "",
            "\u{9b}2J\u{202e}\u{1f600}\x7f",
        ),
    ];
    for (name, escaped, value) in cases {
        let event = auth_failure(AuthFailureCause::PidMismatch, Some(sender(4711, name, 0)));
        let line = human(&event);
        assert!(line.contains(escaped), "{line:?}");
        assert!(
            line.trim_end_matches('\n').bytes().all(is_printable),
            "{line:?}"
        );
        let line = render(Format::Json, &event);
        assert!(
            line.trim_end_matches('\n').bytes().all(is_printable),
            "{line:?}"
        );
        assert_eq!(object(&event)["sender"]["comm"], json!(value));
    }
}

fn is_printable(byte: u8) -> bool {
    byte == b' ' || byte.is_ascii_graphic()
}

#[test]
fn colour_wraps_the_line_and_changes_nothing_else() {
    let event = auth_failure(AuthFailureCause::PidMismatch, Some(evil()));
    let colored = render(Format::Human { color: true }, &event);
    let body = colored
        .strip_prefix("\x1b[1m\x1b[31m")
        .unwrap()
        .strip_suffix("\x1b[0m\n")
        .unwrap();
    assert_eq!(format!("{body}\n"), human(&event));
}
