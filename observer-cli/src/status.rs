//! `observer status`: shows the status of a running observer once.

use std::io;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use clap::builder::RangedU64ValueParser;

use crate::control::{DEFAULT_ROWS, MAX_ROWS, fetch_status};
use crate::describe;
use crate::plain::{PlainText, ignore_broken_pipe, write_document};

/// `observer status`
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Control socket of the observer, as given to `observer run --control`
    #[arg(long, value_name = "PATH")]
    control: PathBuf,

    /// Write one JSON object
    #[arg(long)]
    json: bool,

    /// How many agents to list: the stalled first, then those whose last beat
    /// is the oldest
    #[arg(
        long,
        value_name = "N",
        value_parser = RangedU64ValueParser::<usize>::new().range(..=MAX_ROWS as u64),
        default_value_t = DEFAULT_ROWS
    )]
    agents: usize,
}

pub(crate) fn execute(args: &Status) -> anyhow::Result<()> {
    let status = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?
        .block_on(fetch_status(&args.control, args.agents))?;
    let mut out = PlainText(io::stdout().lock());
    let written = if args.json {
        write_document(&mut out, &status)
    } else {
        describe::write(&mut out, &status)
    };
    Ok(ignore_broken_pipe(written)?)
}
