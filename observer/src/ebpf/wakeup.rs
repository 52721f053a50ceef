//! Sets whether the eBPF program wakes the observer.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use aya::maps::MapData;
use rustix::mm::ProtFlags;
use rustix::param::page_size;

use super::mapping::Mapping;

/// The program's `WAKEUP` word: 1 while the observer sleeps and is to be
/// woken. The program clears it when it wakes the observer.
pub(crate) struct Wakeup {
    /// Keeps the word's memory.
    _map: MapData,
    word: Mapping,
}

impl Wakeup {
    /// An array map that can be mapped begins with its first value
    /// (`array_map_mmap`, `kernel/bpf/arraymap.c`).
    pub(super) fn new(map: MapData) -> io::Result<Self> {
        let read_write = ProtFlags::READ | ProtFlags::WRITE;
        let word = Mapping::new(map.fd().as_fd(), 0, page_size(), read_write)?;
        Ok(Self { _map: map, word })
    }

    /// Asks to be woken by the next record. The ring must be looked at after
    /// this: a record that was committed before it wakes nobody.
    ///
    /// The barrier is one of a pair: the program has the other between its
    /// record and its look at the word (`bpf_ringbuf_commit` uses `xchg`).
    pub(super) fn arm(&self) {
        self.word().store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Asks not to be woken.
    pub(super) fn disarm(&self) {
        self.word().store(0, Ordering::Relaxed);
    }

    fn word(&self) -> &AtomicU64 {
        self.word.first_word()
    }
}
