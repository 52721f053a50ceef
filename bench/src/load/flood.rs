//! One flooder: sends as fast as it can.

use std::io;
use std::path::Path;
use std::process;
use std::sync::atomic::Ordering::Relaxed;

use serde::{Deserialize, Serialize};

use super::agent::{GARBAGE, LONGEST_LIFE_NS, connect, frame, send};
use super::shared::{Cell, Stage};
use crate::clock;

/// What a flooder sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Flood {
    /// One byte.
    Byte,
    /// As many bytes as a frame has, which are none.
    Garbage,
    /// The same frame of its own over and over. Its nonce is not one that
    /// would begin a new session.
    Stale,
    /// Another agent's pid, with ever new nonces.
    Spoofed,
    /// Its own pid, with ever new nonces.
    Honest,
}

/// A nonce that begins no session.
const STALE_NONCE: u64 = 7;

impl Flood {
    pub const ALL: [Self; 5] = [
        Self::Byte,
        Self::Garbage,
        Self::Stale,
        Self::Spoofed,
        Self::Honest,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Byte => "1 byte",
            Self::Garbage => "garbage",
            Self::Stale => "stale nonces",
            Self::Spoofed => "spoofed",
            Self::Honest => "honest",
        }
    }
}

/// Waits for the start, then sends until it is told to stop. `victim` is the
/// agent whose pid a forger claims.
pub fn run(socket: &Path, flood: Flood, victim: u32, stage: &Stage, cell: &Cell) -> io::Result<()> {
    let own = process::id();
    cell.pid.store(own, Relaxed);
    let socket = connect(socket)?;
    stage.wait_for_start();
    let (cpu_ns, end_ns) = (clock::cpu_ns(), clock::now_ns() + LONGEST_LIFE_NS);
    let mut nonce = STALE_NONCE;
    while !stage.is_calm() && clock::now_ns() < end_ns {
        nonce += 1;
        let is_sent = match flood {
            Flood::Byte => send(&socket, b"x"),
            Flood::Garbage => send(&socket, &GARBAGE),
            Flood::Stale => send(&socket, &frame(own, STALE_NONCE).encode()),
            Flood::Spoofed => send(&socket, &frame(victim, nonce).encode()),
            Flood::Honest => send(&socket, &frame(own, nonce).encode()),
        }?;
        if is_sent {
            cell.sent.store(cell.sent.load(Relaxed) + 1, Relaxed);
        }
    }
    cell.cpu_ns.store(clock::cpu_ns() - cpu_ns, Relaxed);
    stage.wait_for_leave();
    Ok(())
}
