//! `observer audit keygen`.

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Args;

use crate::plain::{ignore_broken_pipe, write_to_stderr};

/// `observer audit keygen`
#[derive(Debug, Args)]
pub(crate) struct Keygen {
    /// Signing key to create, for `observer run --audit-key`. It stays on this
    /// host
    #[arg(long, value_name = "FILE")]
    audit_key: PathBuf,

    /// Verification key to create, for `observer audit verify --key`. Move it
    /// off this host: whoever has it can forge the trail
    #[arg(long, value_name = "FILE")]
    verify_key: PathBuf,
}

pub(super) fn execute(args: &Keygen) -> anyhow::Result<()> {
    let trail = observer_audit::generate(&args.audit_key, &args.verify_key)?;
    ignore_broken_pipe(writeln!(io::stdout(), "trail {trail}"))?;
    write_to_stderr(format_args!(
        "now move {} off this host: whoever has it can forge the trail",
        args.verify_key.display()
    ));
    Ok(())
}
