//! Tells the eBPF program whether to wake the observer.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering, fence},
};

use aya::maps::MapData;
use rustix::{mm::ProtFlags, param::page_size};

use super::mapping::Mapping;

/// The program's `ASLEEP` word: 1 while the observer sleeps and is to be
/// woken. The program clears it when it wakes.
pub(super) struct Bell {
    /// Keeps the word's memory.
    _map: MapData,
    word: Mapping,
}

impl Bell {
    /// An array map that can be mapped begins with its first value
    /// (`array_map_mmap`, `kernel/bpf/arraymap.c`).
    pub(super) fn new(map: MapData) -> io::Result<Self> {
        use std::os::fd::AsFd as _;

        let read_write = ProtFlags::READ | ProtFlags::WRITE;
        let word = Mapping::new(map.fd().as_fd(), 0, page_size(), read_write)?;
        Ok(Self { _map: map, word })
    }

    /// Asks to be woken by the next record. The ring must be looked at after
    /// this: a record that was committed before it rang nothing.
    ///
    /// The barrier makes the two agree: the program has one between its record
    /// and its look at the word (`bpf_ringbuf_commit` uses `xchg`).
    pub(super) fn set(&self) {
        self.word().store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Asks for silence.
    pub(super) fn mute(&self) {
        self.word().store(0, Ordering::Relaxed);
    }

    fn word(&self) -> &AtomicU64 {
        self.word.first_word()
    }
}
