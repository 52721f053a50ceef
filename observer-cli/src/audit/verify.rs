//! `observer audit verify`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use observer_audit::verify::{Request, Verdict, verify};

use crate::plain::{PlainText, write_document};
use crate::until_read;

pub(super) const NOTES: &str = "Exits with 0 if nothing is wrong, with 1 if something is. What \
    cannot be shown: lines after the last seal that root on the host edited before the next, and \
    anything that the observer was kept from seeing. A trail that was stopped in order may have \
    been gone on with; --host-key tells, unless a saved copy of an earlier key file was put in its \
    place.";

/// `observer audit verify`
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The trail; its rotated files are found beside it
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Verification key, made by `observer audit keygen`
    #[arg(long, value_name = "FILE")]
    key: PathBuf,

    /// The host's key file, to see whether the end was cut off
    #[arg(long, value_name = "FILE")]
    host_key: Option<PathBuf>,

    /// The observer runs still, or was killed: an end without an ordered stop
    /// is nothing wrong
    #[arg(long)]
    running: bool,

    /// Write one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(args: &Verify) -> anyhow::Result<ExitCode> {
    let verdict = verify(&Request {
        file: args.file.clone(),
        key: args.key.clone(),
        host_key: args.host_key.clone(),
        running: args.running,
    })?;
    let mut out = PlainText(io::stdout().lock());
    let written = if args.json {
        write_document(&mut out, &verdict)
    } else {
        describe(&mut out, &verdict)
    };
    // The exit code is an answer, too.
    until_read(written)?;
    Ok(ExitCode::from(u8::from(!verdict.is_clean())))
}

fn describe(out: &mut impl Write, verdict: &Verdict) -> io::Result<()> {
    for finding in &verdict.findings {
        write!(out, "{}", finding.file.display())?;
        if let Some(line) = finding.line {
            write!(out, ":{line}")?;
        }
        writeln!(out, ": {}", finding.fault)?;
    }
    if verdict.more_findings > 0 {
        writeln!(out, "... and {} more", verdict.more_findings)?;
    }
    write!(
        out,
        "{}: trail {}, {} lines",
        if verdict.is_clean() {
            "clean"
        } else {
            "NOT CLEAN"
        },
        verdict.trail,
        verdict.lines
    )?;
    if let (Some(first), Some(last)) = (verdict.first_line, verdict.last_line) {
        write!(out, " ({first} to {last}) in {} files", verdict.files.len())?;
    }
    match (verdict.sealed_through, &verdict.sealed_at) {
        (Some(through), Some(at)) => write!(out, ", sealed through line {through} at {at}")?,
        _ => write!(out, ", nothing sealed")?,
    }
    let ending = if verdict.stopped {
        "stopped in order"
    } else {
        "open end"
    };
    writeln!(out, ", {ending}")?;
    for (count, what) in [
        (verdict.unfinished_bytes, "bytes of an unfinished last line"),
        (
            verdict.removed_through,
            "lines, the first ones, were removed for their age, by the observer's own account",
        ),
        (
            verdict.lost,
            "incidents that the observer lost, by its own account",
        ),
        (
            verdict.repairs,
            "torn writes that the observer cut off, by its own account",
        ),
    ] {
        if count > 0 {
            writeln!(out, "note: {count} {what}")?;
        }
    }
    Ok(())
}
