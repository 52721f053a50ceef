//! `observer audit follow`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use observer_audit::follow::{Follower, Seen};
use observer_audit::report::Line;
use observer_events::format::Plain;

use crate::plain::write_to_stderr;

/// How often new lines are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// `observer audit follow`
#[derive(Debug, Args)]
pub(crate) struct Follow {
    /// The trail
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Begin with the first line of the present file, not with the next new
    /// line
    #[arg(long)]
    from_start: bool,

    /// Write the lines as they are in the file. Nothing is verified
    #[arg(long)]
    json: bool,
}

/// Runs until a signal comes, or its output is no longer read.
pub(super) fn execute(args: &Follow) -> anyhow::Result<()> {
    if !args.file.exists() {
        let file = args.file.display();
        write_to_stderr(format_args!("{file} is not there yet: waiting for it"));
    }
    let mut follower = Follower::new(&args.file, args.from_start);
    loop {
        match follower.look()? {
            Seen::Line(line) => match show(line, args.json) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                result => result?,
            },
            Seen::Change(change) => {
                write_to_stderr(format_args!("{}: {change}", args.file.display()));
            }
            _ => std::thread::sleep(LOOK_EVERY),
        }
    }
}

fn show(line: &[u8], json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match Line::parse(line) {
        Some(line) if !json => writeln!(out, "{}", Plain(line))?,
        // The observer writes printable ASCII only. Anything else that is in the
        // file must not reach a terminal as it is.
        _ => writeln!(out, "{}", Plain(String::from_utf8_lossy(line)))?,
    }
    out.flush()
}
