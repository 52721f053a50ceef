//! The configuration file, and the log.

use std::path::PathBuf;

use clap::Args;

use crate::log::{Filter, parse_filter};

#[derive(Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Configuration and log")]
pub(super) struct Flags {
    /// Read settings from this file (TOML): any of these flags, with `_` for
    /// `-`. Flags that are given beat the environment, and that beats the file.
    /// It must belong to root or to the observer's user, and nobody else may be
    /// able to write or replace it. SIGHUP reads it again
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// What to log, on stderr: a level (off, error, warn, info, debug, trace), or
    /// TARGET=LEVEL for more of one module, such as `observer::ebpf=trace`, or
    /// several with commas. The environment variable
    /// `OBSERVER_LOG` says the same
    #[arg(long, value_name = "FILTER", value_parser = parse_filter, default_value = "info")]
    pub(super) log: Filter,
}
