//! One agent: sends frames with its own pid until it has to stop.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use observer_common::frame::Frame;
use observer_testing::frame;

use super::Pace;
use super::shared::{Cell, Stage};
use crate::clock;

/// How long a send may wait for room before the agent looks whether it has to
/// stop.
pub const LONGEST_SEND: Duration = Duration::from_secs(1);

/// How long it sleeps at most before it looks whether it has to stop.
const LONGEST_SLEEP_NS: u64 = 200_000_000;

/// Nobody sends for longer than that, whatever becomes of its parents.
pub const LONGEST_LIFE_NS: u64 = 300_000_000_000;

/// Beats once, waits for the start, then beats at its pace.
pub fn run(socket: &Path, pace: Pace, index: u64, stage: &Stage, cell: &Cell) -> io::Result<()> {
    let mut agent = Agent::connect(socket, cell)?;
    agent.beat()?;
    cell.sent.store(0, Relaxed);
    stage.wait_for_start();
    let cpu_ns = clock::cpu_ns();
    let end_ns = clock::now_ns() + LONGEST_LIFE_NS;
    let goes_on = || !stage.is_stopped() && clock::now_ns() < end_ns;
    match pace {
        Pace::Never => {
            while goes_on() {
                clock::sleep_until(clock::now_ns() + LONGEST_SLEEP_NS);
            }
        }
        Pace::Saturate => agent.saturate(stage, end_ns)?,
        Pace::Every { period_ns, waits } => {
            agent.socket.set_nonblocking(!waits)?;
            let mut next_ns = stage.started_ns() + phase(index, period_ns);
            while sleep_until(next_ns, goes_on) {
                agent.beat()?;
                next_ns += period_ns;
            }
        }
    }
    cell.cpu_ns.store(clock::cpu_ns() - cpu_ns, Relaxed);
    stage.wait_for_leave();
    Ok(())
}

struct Agent<'a> {
    socket: UnixDatagram,
    frame: Frame,
    cell: &'a Cell,
}

impl<'a> Agent<'a> {
    fn connect(socket: &Path, cell: &'a Cell) -> io::Result<Self> {
        let pid = process::id();
        cell.pid.store(pid, Relaxed);
        Ok(Self {
            socket: connect(socket)?,
            frame: frame(pid, 0),
            cell,
        })
    }

    /// The clock is looked at now and then only: it costs as much as a part of
    /// the send.
    fn saturate(&mut self, stage: &Stage, end_ns: u64) -> io::Result<()> {
        while clock::now_ns() < end_ns {
            for _ in 0..1024 {
                if stage.is_stopped() {
                    self.cell.last_ns.store(clock::now_ns(), Relaxed);
                    return Ok(());
                }
                self.send()?;
            }
        }
        Ok(())
    }

    /// Sends one frame with the time in it.
    fn beat(&mut self) -> io::Result<()> {
        let now_ns = clock::now_ns();
        self.frame.payload = clock::stamp(now_ns);
        if self.send()? {
            self.cell.last_ns.store(now_ns, Relaxed);
        }
        Ok(())
    }

    /// Whether there was room for it.
    fn send(&mut self) -> io::Result<bool> {
        self.frame.nonce += 1;
        let is_sent = send(&self.socket, &self.frame.encode())?;
        let counter = if is_sent {
            &self.cell.sent
        } else {
            &self.cell.lost
        };
        // Nobody else writes it.
        counter.store(counter.load(Relaxed) + 1, Relaxed);
        Ok(is_sent)
    }
}

/// A socket whose sends wait for room, yet not for ever.
pub fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = observer_testing::connect(path)?;
    socket.set_write_timeout(Some(LONGEST_SEND))?;
    Ok(socket)
}

/// Whether there was room for it.
pub fn send(socket: &UnixDatagram, bytes: &[u8]) -> io::Result<bool> {
    match socket.send(bytes) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// Sleeps in short pieces; whether it still has to go on then.
fn sleep_until(ns: u64, goes_on: impl Fn() -> bool) -> bool {
    loop {
        let now_ns = clock::now_ns();
        if !goes_on() {
            return false;
        }
        if now_ns >= ns {
            return true;
        }
        clock::sleep_until(ns.min(now_ns + LONGEST_SLEEP_NS));
    }
}

/// Where in its period an agent beats: anywhere, as agents of a host do that
/// know nothing of each other, and the same in each run. One step of
/// splitmix64.
fn phase(index: u64, period_ns: u64) -> u64 {
    let mut bits = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (bits ^ (bits >> 31)) % period_ns
}
