//! Memory that the loader shares with the processes that it forks.

use std::num::NonZeroUsize;
use std::slice;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};

use anyhow::Result;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use rustix::io::Errno;
use rustix::thread::futex::{Flags, wait, wake};

use super::Sender;
use crate::clock;

/// One mapping for as long as the process lives.
#[derive(Clone, Copy)]
pub struct Shared {
    pub stage: &'static Stage,
    /// One for each process, first those of the agents.
    pub cells: &'static [Cell],
}

/// What all processes read of the loader. All zeroes at first.
#[repr(C, align(64))]
pub struct Stage {
    /// A futex: 1 once they may begin.
    started: AtomicU32,
    /// 1 once flooders have to end.
    calm: AtomicU32,
    /// 1 once nobody may send any more.
    stopped: AtomicU32,
    /// A futex: 1 once they may end.
    left: AtomicU32,
    /// How many are waiting for the start.
    pub ready: AtomicU32,
    /// How many have sent their last.
    pub done: AtomicU32,
    started_ns: AtomicU64,
}

/// What a process writes of itself, in a cache line of its own.
#[derive(Default)]
#[repr(C, align(64))]
pub struct Cell {
    pub pid: AtomicU32,
    pub sent: AtomicU64,
    pub lost: AtomicU64,
    pub cpu_ns: AtomicU64,
    pub last_ns: AtomicU64,
}

const STAGE_LEN: usize = size_of::<Stage>();

impl Shared {
    /// Maps it, for so many processes.
    pub fn new(processes: usize) -> Result<Self> {
        let length = STAGE_LEN + processes * size_of::<Cell>();
        let length = NonZeroUsize::new(length).expect("there is a stage");
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start = unsafe { mmap_anonymous(None, length, protection, MapFlags::MAP_SHARED)? };
        // SAFETY: the mapping is aligned to a page, long enough, and never
        // unmapped; zeroes are a valid `Stage`, whose fields are all atomic.
        let stage: &'static Stage = unsafe { start.cast().as_ref() };
        // SAFETY: the mapping is longer than a stage.
        let cells = unsafe { start.byte_add(STAGE_LEN) }.cast::<Cell>();
        // SAFETY: there is room for so many, aligned since a stage's length is
        // a multiple of 64; zeroes are valid cells, whose fields are atomic.
        let cells = unsafe { slice::from_raw_parts(cells.as_ptr(), processes) };
        Ok(Self { stage, cells })
    }
}

impl Stage {
    /// Lets all begin, at the same time.
    pub fn start(&self) -> Result<()> {
        self.started_ns.store(clock::now_ns(), Relaxed);
        open(&self.started)
    }

    /// When that was, in nanoseconds since boot.
    pub fn started_ns(&self) -> u64 {
        self.started_ns.load(Relaxed)
    }

    /// Says that a process is ready, and waits for the start.
    pub fn wait_for_start(&self) {
        self.ready.fetch_add(1, Relaxed);
        wait_for(&self.started);
    }

    /// Lets all end.
    pub fn leave(&self) -> Result<()> {
        open(&self.left)
    }

    /// Says that a process has sent its last, and waits until it may end.
    pub fn wait_for_leave(&self) {
        self.done.fetch_add(1, Relaxed);
        wait_for(&self.left);
    }

    pub fn calm(&self) {
        self.calm.store(1, Relaxed);
    }

    pub fn is_calm(&self) -> bool {
        self.calm.load(Relaxed) != 0 || self.is_stopped()
    }

    pub fn stop(&self) {
        self.stopped.store(1, Relaxed);
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed) != 0
    }
}

fn open(gate: &AtomicU32) -> Result<()> {
    gate.store(1, Relaxed);
    wake(gate, Flags::empty(), i32::MAX.unsigned_abs())?;
    Ok(())
}

fn wait_for(gate: &AtomicU32) {
    while gate.load(Relaxed) == 0 {
        match wait(gate, Flags::empty(), 0, None) {
            Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => panic!("futex: {error}"),
        }
    }
}

impl Cell {
    pub fn read(&self) -> Sender {
        Sender {
            pid: self.pid.load(Relaxed),
            sent: self.sent.load(Relaxed),
            lost: self.lost.load(Relaxed),
            cpu_ns: self.cpu_ns.load(Relaxed),
            last_ns: self.last_ns.load(Relaxed),
        }
    }
}
