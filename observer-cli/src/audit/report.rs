//! `observer audit report`.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;
use observer_audit::report::{Summary, summarize};
use observer_events::format::Count;

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
    ensure!(
        summary.lines > 0 || summary.unreadable == 0,
        "{} is no audit trail: none of its {} can be read",
        args.path.display(),
        Count(summary.unreadable, "line", "lines")
    );
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
        "\n{} on {}; not verified",
        Count(summary.incidents, "incident", "incidents"),
        Count(summary.lines, "line", "lines"),
    )?;
    let incidents = |count| Count(count, "incident", "incidents");
    for (count, what) in [
        (incidents(summary.lost), "lost, as the observer recorded"),
        (
            Count(summary.compressed, "file", "files"),
            "compressed and not read",
        ),
        (
            Count(summary.unreadable, "line", "lines"),
            "that cannot be read",
        ),
        (
            incidents(summary.not_listed),
            "of attackers or victims beyond those listed",
        ),
    ] {
        let Count(number, ..) = count;
        if number > 0 {
            writeln!(out, "note: {count} {what}")?;
        }
    }
    Ok(())
}
