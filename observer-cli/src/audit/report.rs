//! `observer audit report`.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use observer_audit::report::{Summary, summarize};

use crate::plain::{PlainText, ignore_broken_pipe, write_document};
use crate::table::Table;

/// `observer audit report`
#[derive(Debug, Args)]
pub(crate) struct Report {
    /// The trail, or a folder that holds nothing else. Rotated files are found
    /// beside it. Nothing is verified: use `observer audit verify` for that
    #[arg(value_name = "PATH")]
    path: PathBuf,

    /// Write one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(args: &Report) -> anyhow::Result<()> {
    let summary = summarize(&args.path)?;
    let mut out = PlainText(io::stdout().lock());
    let written = if args.json {
        write_document(&mut out, &summary)
    } else {
        describe(&mut out, &summary)
    };
    Ok(ignore_broken_pipe(written)?)
}

fn describe(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    let mut attackers = Table::new(["count", "first", "last", "attacker", "how", "victims"]);
    for attacker in &summary.attackers {
        attackers.row([
            attacker.occurrences.count.to_string(),
            attacker.occurrences.first.clone(),
            attacker.occurrences.last.clone(),
            attacker.sender.to_string(),
            attacker.occurrences.how(),
            attacker.victims(),
        ]);
    }
    attackers.write(out)?;
    writeln!(out)?;
    let mut victims = Table::new(["count", "first", "last", "victim", "how", "attackers"]);
    for victim in &summary.victims {
        victims.row([
            victim.occurrences.count.to_string(),
            victim.occurrences.first.clone(),
            victim.occurrences.last.clone(),
            victim.name(),
            victim.occurrences.how(),
            victim.attackers.to_string(),
        ]);
    }
    victims.write(out)?;
    writeln!(
        out,
        "\n{} incidents on {} lines; not verified",
        summary.incidents, summary.lines
    )?;
    for (count, what) in [
        (summary.lost, "incidents lost, as the observer recorded"),
        (summary.unreadable, "lines that cannot be read"),
        (
            summary.compressed,
            "files that are compressed and were not read",
        ),
        (
            summary.not_listed,
            "incidents of attackers or victims beyond those listed",
        ),
    ] {
        if count > 0 {
            writeln!(out, "note: {count} {what}")?;
        }
    }
    Ok(())
}
