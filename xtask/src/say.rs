//! What the developer reads: progress on stderr, the demo on stdout.

use std::fmt::Display;
use std::io::Write as _;

use anstyle::{AnsiColor, Style};

const STRONG: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// A line on stderr. There is nobody left to tell if that fails.
pub(crate) fn line(text: impl Display) {
    drop(writeln!(anstream::stderr(), "{text}"));
}

/// A labelled fact: `    compiler  rustc 1.97.0 …`.
pub(crate) fn fact(label: &str, text: impl Display) {
    line(format_args!("{STRONG}{label:>12}{STRONG:#}  {text}"));
}

/// As [`fact`], for what went well.
pub(crate) fn good(label: &str, text: impl Display) {
    line(format_args!("{GOOD}{label:>12}{GOOD:#}  {text}"));
}

/// As [`fact`], for what must not be overlooked.
pub(crate) fn bad(label: &str, text: impl Display) {
    line(format_args!("{BAD}{label:>12}{BAD:#}  {text}"));
}

/// The last line of a verb that failed.
pub(crate) fn error(error: &anyhow::Error) {
    line(format_args!("{BAD}error{BAD:#}: {error:#}"));
}

/// A line of the demo, on stdout.
pub(crate) fn show(text: impl Display) {
    drop(writeln!(anstream::stdout(), "{text}"));
}

/// A heading of the demo, on stdout.
pub(crate) fn heading(text: impl Display) {
    show(format_args!("\n{STRONG}{text}{STRONG:#}"));
}
