//! What a beat costs the observer, its peer and a bare socket, side by side
//! in one run; and whose beats come through while somebody floods.
//!
//! `docs/benchmarks.md` explains what is measured, how, and what each column
//! means. `cargo xtask bench` builds what this needs and starts it, as root.

mod arena;
mod clock;
mod floor;
mod load;
mod machine;
mod outcome;
mod output;
mod plan;
mod receiver;
mod scenario;
mod subject;
mod table;
mod usage;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Compares the observer with varta-watch and with a bare socket.
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Throughput, latency, wake-ups, memory and the lateness of stalls
    Compare(plan::Args),
    /// Whose beats come through while somebody floods
    Flood(plan::Args),
    /// A bare receiver, the floor of all figures
    #[command(hide = true)]
    Floor(floor::Args),
    /// The process that all agents are forked from
    #[command(hide = true)]
    Load(load::Args),
}

fn main() -> Result<()> {
    match Cli::parse().verb {
        Verb::Compare(args) => scenario::compare(&args),
        Verb::Flood(args) => scenario::flood(&args),
        Verb::Floor(args) => floor::execute(&args),
        Verb::Load(args) => load::execute(&args),
    }
}
