//! Agents, each a process of its own that beats in its own name.
//!
//! `observer-bench load` is a small process without threads, so that forking
//! thousands of agents from it is cheap. They wait on one futex for their
//! start, and count in memory that they share with it. Its parent writes `go`,
//! `calm`, `stop` and `leave` to its stdin, and reads the results as JSON.
//!
//! Between `stop` and `leave` all live on without sending: varta-watch looks up
//! a sender in `/proc` when it receives, and panics (`FileExporter::record`) if
//! it has to export a beat whose sender has ended by then.
//!
//! Nothing outlives it: an agent is killed with its parent, and ends by itself
//! when its time is over.

mod agent;
mod brood;
mod crew;
mod flood;
mod shared;

use std::path::PathBuf;

use anyhow::Result;
use observer_testing::flood::Flood;
use serde::{Deserialize, Serialize};

pub use self::crew::Crew;

/// Who sends what.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Where to.
    pub socket: PathBuf,
    /// Processes that beat.
    pub agents: u32,
    /// When they beat.
    pub pace: Pace,
    /// Processes that flood, besides.
    pub floods: Vec<Flood>,
}

/// When an agent beats. Each has beaten once before it all begins.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Pace {
    /// Never again.
    Never,
    /// As often as it can, waiting for room in the queue.
    Saturate,
    /// Once in a while, at a phase of its own.
    Every {
        /// Nanoseconds between two beats.
        period_ns: u64,
        /// Whether it waits for room in the queue. If not, a beat that finds
        /// none is lost: it is never retried.
        waits: bool,
    },
}

/// What became of it all.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// When the start was given, in nanoseconds since boot.
    pub started_ns: u64,
    /// Each agent.
    pub agents: Vec<Sender>,
    /// Each flooder.
    pub floods: Vec<Sender>,
}

/// What one process did after the start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sender {
    /// Its pid.
    pub pid: u32,
    /// Sends that succeeded; the beat before the start is not among them.
    pub sent: u64,
    /// Sends that found no room.
    pub lost: u64,
    /// CPU time of all that, in nanoseconds.
    pub cpu_ns: u64,
    /// When its last send succeeded, in nanoseconds since boot.
    pub last_ns: u64,
}

impl Outcome {
    /// Beats of agents after the start.
    pub fn sent(&self) -> u64 {
        self.agents.iter().map(|agent| agent.sent).sum()
    }

    /// Datagrams of flooders.
    pub fn flooded(&self) -> u64 {
        self.floods.iter().map(|flood| flood.sent).sum()
    }

    /// CPU time that the agents took, in nanoseconds.
    pub fn cpu_ns(&self) -> u64 {
        self.agents.iter().map(|agent| agent.cpu_ns).sum()
    }

    /// From the start to the last beat, in nanoseconds.
    pub fn took_ns(&self) -> u64 {
        let last = self.agents.iter().map(|agent| agent.last_ns).max();
        last.unwrap_or(0).saturating_sub(self.started_ns)
    }
}

/// `observer-bench load`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A [`Spec`] as JSON
    spec: String,
}

/// Runs until `leave` comes on its stdin, or that ends.
pub fn execute(args: &Args) -> Result<()> {
    let spec: Spec = serde_json::from_str(&args.spec)?;
    brood::serve(&spec)
}
