//! `observer audit repair`.

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Args;

use crate::plain::PlainText;

pub(super) const NOTES: &str = "For a trail that the observer refuses to continue. Nothing is \
    deleted: the file is kept under another name, and the first line of the new one says what was \
    found and where the old one is. Lines that are missing stay missing, and `observer audit \
    verify` goes on to report them. Run it as the observer's user, while no observer runs. Where \
    nothing is wrong, nothing is changed.";

/// `observer audit repair`
#[derive(Debug, Args)]
pub(crate) struct Repair {
    /// The trail, as for `observer run --audit`
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Signing key of the trail, as for `observer run --audit-key`
    #[arg(long, value_name = "FILE")]
    audit_key: PathBuf,
}

pub(super) fn execute(args: &Repair) -> anyhow::Result<()> {
    let mut out = PlainText(io::stdout().lock());
    let Some(repair) = observer_audit::repair(&args.file, &args.audit_key)? else {
        writeln!(
            out,
            "nothing to repair: the trail continues as its key file says"
        )?;
        return Ok(());
    };
    let file = args.file.display();
    writeln!(out, "found: {}", repair.found)?;
    if let Some(kept) = repair.kept {
        writeln!(out, "kept: what was {file} is {kept} now")?;
    }
    writeln!(
        out,
        "the trail goes on in {file} with line {}, which says so",
        repair.line
    )?;
    Ok(())
}
