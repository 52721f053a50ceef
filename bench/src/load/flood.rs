//! One flooder: sends as fast as it can.

use std::io;
use std::path::Path;
use std::process;
use std::sync::atomic::Ordering::Relaxed;

use observer_testing::flood::Flood;

use super::agent::{LONGEST_LIFE_NS, connect, send};
use super::shared::{Cell, Stage};
use crate::clock;

/// Waits for the start, then sends until it has to stop. `victim` is the agent
/// whose pid a forger claims.
pub fn run(socket: &Path, flood: Flood, victim: u32, stage: &Stage, cell: &Cell) -> io::Result<()> {
    let own = process::id();
    cell.pid.store(own, Relaxed);
    let socket = connect(socket)?;
    stage.wait_for_start();
    let (cpu_ns, end_ns) = (clock::cpu_ns(), clock::now_ns() + LONGEST_LIFE_NS);
    let mut number = 0;
    while !stage.is_calm() && clock::now_ns() < end_ns {
        number += 1;
        if send(&socket, flood.datagram(own, victim, number).bytes())? {
            cell.sent.store(cell.sent.load(Relaxed) + 1, Relaxed);
        }
    }
    cell.cpu_ns.store(clock::cpu_ns() - cpu_ns, Relaxed);
    stage.wait_for_leave();
    Ok(())
}
