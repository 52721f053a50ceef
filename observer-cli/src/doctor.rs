//! `observer doctor`: what this host allows, for a person or a program.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use anyhow::Context as _;
use clap::Args;
use observer::probe::{Finding, HostReport, State, probe};
use observer::{KERNEL_BTF, tier_name};
use observer_events::event::Via;
use observer_events::format::Plain;
use serde::Serialize;

use crate::failure::CANNOT_ATTEST;
use crate::plain::{ignore_broken_pipe, write_document};
use crate::stream::Stream;

/// `observer doctor`
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Write one JSON object instead of a table
    #[arg(long)]
    json: bool,

    /// File with the running kernel's types (BTF)
    #[arg(long, value_name = "PATH", default_value = KERNEL_BTF, hide_short_help = true)]
    btf: PathBuf,
}

/// Looks at the host and writes what it finds to stdout.
///
/// # Errors
/// If stdout cannot be written.
pub(crate) fn execute(args: &Doctor) -> anyhow::Result<ExitCode> {
    let report = probe(&args.btf);
    let mut text = Vec::new();
    let written = if args.json {
        write_json(&mut text, &report)
    } else {
        write_table(&mut text, &report, Stream::Stdout.color())
    };
    let written = written.and_then(|()| io::stdout().write_all(&text));
    // Even if nobody reads the output, the exit code is still to be returned.
    ignore_broken_pipe(written).context("cannot write the report to stdout")?;
    Ok(match report.attested_tier() {
        Some(_) => ExitCode::SUCCESS,
        None => ExitCode::from(CANNOT_ATTEST),
    })
}

/// The facts, with what they mean.
#[derive(Serialize)]
struct Json<'a> {
    #[serde(flatten)]
    report: &'a HostReport,
    /// What `--attest prefer` uses.
    tier: Via,
    /// Whether `--attest require` starts.
    can_attest: bool,
    findings: Vec<Finding>,
}

fn write_json(mut out: impl Write, report: &HostReport) -> io::Result<()> {
    let json = Json {
        report,
        tier: report.tier(),
        can_attest: report.attested_tier().is_some(),
        findings: report.findings(),
    };
    write_document(&mut out, &json)
}

fn write_table(mut out: impl Write, report: &HostReport, color: bool) -> io::Result<()> {
    for Finding {
        check,
        state,
        found,
        action,
    } in report.findings()
    {
        let (word, style) = appearance(state);
        let style = if color { style } else { Style::new() };
        let found = Plain(found);
        writeln!(out, "{style}{word:<8}{style:#}  {check:<25}  {found}")?;
        if let Some(action) = action {
            writeln!(out, "{:>37}-> {}", "", Plain(action))?;
        }
    }
    writeln!(out, "\n{}", verdict(report))
}

fn appearance(state: State) -> (&'static str, Style) {
    match state {
        State::Ok => ("ok", AnsiColor::Green.on_default()),
        State::Limited => ("limited", AnsiColor::Yellow.on_default()),
        State::Unproven => ("unproven", AnsiColor::Yellow.on_default()),
        State::Missing => ("MISSING", AnsiColor::Red.on_default().bold()),
        State::Unknown => ("unknown", Style::new().dimmed()),
    }
}

fn verdict(report: &HostReport) -> String {
    match report.attested_tier() {
        Some(via) => format!(
            "tier {}: the kernel attests senders on this host",
            tier_name(via)
        ),
        None if report.tier() != Via::Scm => format!(
            "tier btf should work here and does not: `observer run` will not start, unless it is \
             told to use tier {}, which knows less (--tier)",
            tier_name(report.tier())
        ),
        None => "no eBPF tier works: `observer run` will not start here; with --attest prefer it \
             would use tier scm, which a privileged sender can deceive"
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn both_forms_have_the_same_findings() {
        let report = probe(Path::new(KERNEL_BTF));
        let mut table = Vec::new();
        write_table(&mut table, &report, false).unwrap();
        let table = String::from_utf8(table).unwrap();
        let mut json = Vec::new();
        write_json(&mut json, &report).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        for finding in json["findings"].as_array().unwrap() {
            assert!(
                table.contains(finding["found"].as_str().unwrap()),
                "{finding}\n{table}"
            );
        }
        assert!(!table.contains('\x1b'));
        let verdict = table.lines().last().unwrap();
        let can_attest = verdict.ends_with("the kernel attests senders on this host");
        assert_eq!(json["can_attest"], can_attest, "{verdict}");
    }
}
