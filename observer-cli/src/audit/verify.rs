//! `observer audit verify`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use observer_audit::verify::{Input, Verification, verify};
use observer_events::format::Count;

use crate::plain::{PlainText, ignore_broken_pipe, write_document};

pub(super) const NOTES: &str = "Exits with 0 if nothing is wrong, and with 1 otherwise. It cannot \
    show that root on the host edited lines after the last seal, before the next one, nor what \
    the observer was kept from seeing. A trail that ends with an ordered stop may have been cut \
    off there: --host-key shows this, unless the key file was replaced by a saved copy of an \
    earlier one.";

/// `observer audit verify`
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The trail: its files in any order, or folders that hold nothing else.
    /// Of a single file, those are found beside it that the observer or
    /// logrotate renamed
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,

    /// Verification key, created by `observer audit keygen`
    #[arg(long, value_name = "FILE")]
    key: PathBuf,

    /// Signing key of the host, which shows whether the end was cut off
    #[arg(long, value_name = "FILE")]
    host_key: Option<PathBuf>,

    /// The observer still runs, or was killed: do not report that the trail
    /// ends without an ordered stop
    #[arg(long)]
    running: bool,

    /// Write one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(args: &Verify) -> anyhow::Result<ExitCode> {
    let verification = verify(&Input {
        files: args.paths.clone(),
        key: args.key.clone(),
        host_key: args.host_key.clone(),
        running: args.running,
    })?;
    let mut out = PlainText(io::stdout().lock());
    let written = if args.json {
        write_document(&mut out, &verification)
    } else {
        describe(&mut out, &verification)
    };
    // Even if nobody reads the output, the exit code is still to be returned.
    ignore_broken_pipe(written)?;
    Ok(ExitCode::from(u8::from(!verification.is_clean())))
}

fn describe(out: &mut impl Write, verification: &Verification) -> io::Result<()> {
    for finding in &verification.findings {
        write!(out, "{}", finding.file.display())?;
        if let Some(line) = finding.line {
            write!(out, ":{line}")?;
        }
        writeln!(out, ": {}", finding.fault)?;
    }
    if verification.more_findings > 0 {
        writeln!(out, "... and {} more", verification.more_findings)?;
    }
    let lines = |count| Count(count, "line", "lines");
    write!(
        out,
        "{}: trail {}, {}",
        if verification.is_clean() {
            "clean"
        } else {
            "NOT CLEAN"
        },
        verification.trail,
        lines(verification.lines)
    )?;
    if let (Some(first), Some(last)) = (verification.first_line, verification.last_line) {
        write!(
            out,
            " ({first} to {last}) in {}",
            Count(verification.files.len() as u64, "file", "files")
        )?;
    }
    match (verification.sealed_through, &verification.sealed_at) {
        (Some(through), Some(at)) => write!(out, ", sealed through line {through} at {at}")?,
        _ => write!(out, ", nothing sealed")?,
    }
    let ending = if verification.stopped {
        "stopped in order"
    } else {
        "open end"
    };
    writeln!(out, ", {ending}")?;
    for (count, what) in [
        (
            Count(verification.unfinished_bytes, "byte", "bytes"),
            "of an unfinished last line",
        ),
        (
            lines(verification.removed_through),
            "at the beginning removed for their age, as the observer recorded",
        ),
        (
            Count(verification.lost, "incident", "incidents"),
            "that the observer lost, as it recorded",
        ),
        (
            Count(verification.repairs, "torn write", "torn writes"),
            "that the observer cut off, as it recorded",
        ),
        (
            Count(verification.continuations, "time", "times"),
            "that `observer audit repair` continued the trail where it was broken",
        ),
        (
            Count(verification.alterations, "time", "times"),
            "that somebody else changed, emptied or renamed the file, as the observer \
             recorded",
        ),
    ] {
        let Count(number, ..) = count;
        if number > 0 {
            writeln!(out, "note: {count} {what}")?;
        }
    }
    Ok(())
}
