//! The reader against writers that stop anywhere, on memory laid out as the
//! kernel lays out a ring (`kernel/bpf/ringbuf.c`).

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use proptest::prelude::*;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use zerocopy::IntoBytes as _;

use super::*;

/// Room for 28 records, so that the ring wraps around within a test.
const SIZE: u64 = 4096;

/// The writers' side.
struct Writers {
    memory: File,
    producer: u64,
    /// What is reserved and not yet committed.
    open: Vec<Reserved>,
    sent: u64,
}

#[derive(Clone, Copy, Debug)]
struct Reserved {
    position: u64,
    kind: Kind,
    number: u64,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Record,
    Discarded,
    /// An empty entry, as the program wakes the observer by.
    Empty,
    /// Committed, and of a length that no record has.
    Malformed,
}

impl Kind {
    fn length(self) -> u64 {
        match self {
            Self::Record | Self::Discarded => size_of::<Record>() as u64,
            Self::Empty => 0,
            Self::Malformed => 24,
        }
    }
}

fn ring() -> (Writers, Ring) {
    let memory = memfd_create("ring", MemfdFlags::CLOEXEC).unwrap();
    let page = page_size() as u64;
    ftruncate(&memory, 2 * page + 2 * SIZE).unwrap();
    let ring = Ring::new(memory.try_clone().unwrap(), u32::try_from(SIZE).unwrap()).unwrap();
    let writers = Writers {
        memory: File::from(memory),
        producer: 0,
        open: Vec::new(),
        sent: 0,
    };
    (writers, ring)
}

impl Writers {
    /// Writes to both of the mappings that the data has.
    fn write(&self, position: u64, bytes: &[u8]) {
        let data = 2 * page_size() as u64;
        let offset = position % SIZE;
        let before_end = usize::try_from(SIZE - offset).unwrap().min(bytes.len());
        let (head, tail) = bytes.split_at(before_end);
        for copy in [data, data + SIZE] {
            self.memory.write_all_at(head, copy + offset).unwrap();
            self.memory.write_all_at(tail, copy).unwrap();
        }
    }

    fn write_header(&self, position: u64, flags: u64) {
        let flags = u32::try_from(flags).unwrap();
        self.write(position, &flags.to_ne_bytes());
    }

    /// What userspace has given back.
    fn consumer(&self) -> u64 {
        let mut word = [0; 8];
        self.memory.read_exact_at(&mut word, 0).unwrap();
        u64::from_ne_bytes(word)
    }

    /// False if there is no room.
    fn reserve(&mut self, kind: Kind) -> bool {
        let end = self.producer + entry_len(usize::try_from(kind.length()).unwrap());
        if end - self.consumer() > SIZE {
            return false;
        }
        self.write_header(self.producer, kind.length() | u64::from(BUSY));
        self.sent += 1;
        self.open.push(Reserved {
            position: self.producer,
            kind,
            number: self.sent,
        });
        self.producer = end;
        let page = page_size() as u64;
        let position = self.producer.to_ne_bytes();
        self.memory.write_all_at(&position, page).unwrap();
        true
    }

    /// One of those that are open; `None` if none is.
    fn commit(&mut self, which: usize) -> Option<Reserved> {
        if self.open.is_empty() {
            return None;
        }
        let entry = self.open.remove(which % self.open.len());
        let record = Record {
            time_ns: entry.number,
            dropped: !entry.number,
            ..Record::UNKNOWN
        };
        let flags = match entry.kind {
            Kind::Record => {
                self.write(entry.position + HEADER_LEN as u64, record.as_bytes());
                entry.kind.length()
            }
            Kind::Malformed => entry.kind.length(),
            Kind::Discarded | Kind::Empty => entry.kind.length() | u64::from(DISCARDED),
        };
        self.write_header(entry.position, flags);
        Some(entry)
    }
}

/// Reads all there is; the records' numbers.
fn drain(ring: &mut Ring) -> Vec<u64> {
    let mark = ring.mark();
    ring.begin_look();
    let mut read = Vec::new();
    while let Some(record) = ring.peek(mark) {
        ring.advance();
        assert_eq!(record.dropped, !record.time_ns, "torn");
        read.push(record.time_ns);
    }
    assert!(ring.is_read_up_to(mark));
    ring.release();
    read
}

#[test]
fn a_writer_that_stops_holds_nobody_up() {
    let (mut writers, mut ring) = ring();
    for _ in 0..3 {
        assert!(writers.reserve(Kind::Record));
    }
    writers.commit(1);
    writers.commit(1);
    assert_eq!(drain(&mut ring), [2, 3]);
    assert!(ring.is_quiet() && ring.has_busy());
    assert_eq!(writers.consumer(), 0, "its room is not given back");
    writers.commit(0);
    assert!(!ring.is_quiet());
    assert_eq!(drain(&mut ring), [1]);
    assert!(ring.is_quiet() && !ring.has_busy());
    assert_eq!(writers.consumer(), writers.producer);
}

/// A record that was committed before a mark is not read up to it as long as
/// it has only been passed, whatever looks came to no end.
#[test]
fn what_was_passed_is_unread_until_it_is_looked_at_again() {
    let (mut writers, mut ring) = ring();
    for _ in 0..2 {
        assert!(writers.reserve(Kind::Record));
    }
    assert_eq!(drain(&mut ring), [0; 0]);
    while writers.commit(0).is_some() {}
    let mark = ring.mark();
    assert!(!ring.is_read_up_to(mark));
    for _ in 0..3 {
        ring.begin_look();
        assert_eq!(ring.peek(mark).map(|record| record.time_ns), Some(1));
        assert!(!ring.is_read_up_to(mark));
    }
    assert_eq!(drain(&mut ring), [1, 2]);
    assert!(ring.is_read_up_to(mark));
}

#[test]
fn a_peek_moves_nothing() {
    let (mut writers, mut ring) = ring();
    assert!(writers.reserve(Kind::Empty) && writers.reserve(Kind::Record));
    assert_eq!(ring.oldest(), None);
    writers.commit(0);
    writers.commit(0);
    let mark = ring.mark();
    let oldest = |ring: &Ring| ring.oldest().map(|record| record.time_ns);
    assert_eq!((oldest(&ring), oldest(&ring)), (Some(2), Some(2)));
    let upcoming = |ring: &Ring| ring.upcoming(mark).map(|record| record.time_ns);
    assert_eq!((upcoming(&ring), upcoming(&ring)), (Some(2), Some(2)));
    assert_eq!(drain(&mut ring), [2]);
    assert_eq!((ring.oldest(), ring.upcoming(mark)), (None, None));
}

#[derive(Clone, Debug)]
enum Op {
    Reserve(Kind),
    Commit(usize),
    /// Read, and want no more after so many.
    Read(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let kind = prop_oneof![
        6 => Just(Kind::Record),
        1 => Just(Kind::Discarded),
        1 => Just(Kind::Empty),
        1 => Just(Kind::Malformed),
    ];
    prop_oneof![
        3 => kind.prop_map(Op::Reserve),
        3 => (0..64_usize).prop_map(Op::Commit),
        1 => (0..12_usize).prop_map(Op::Read),
    ]
}

proptest! {
    /// Whenever writers reserve and commit: each record is read once, whole,
    /// by the first look that begins after its commit and comes to an end, and
    /// no entry's room is given back before.
    #[test]
    fn each_record_is_read_once_and_whole(ops in prop::collection::vec(op(), 0..400)) {
        let (mut writers, mut ring) = ring();
        let mut unread: Vec<Reserved> = Vec::new();
        let mut malformed = 0;
        for op in ops {
            match op {
                Op::Reserve(kind) => {
                    writers.reserve(kind);
                }
                Op::Commit(which) => unread.extend(writers.commit(which)),
                Op::Read(limit) => {
                    let mark = ring.mark();
                    ring.begin_look();
                    let mut room = limit;
                    loop {
                        let upcoming = ring.upcoming(mark);
                        let peeked = ring.peek(mark);
                        prop_assert_eq!(upcoming, peeked);
                        let Some(record) = peeked.filter(|_| room > 0) else { break };
                        ring.advance();
                        room -= 1;
                        prop_assert_eq!(record.dropped, !record.time_ns);
                        let found = unread.iter().position(|entry| {
                            entry.number == record.time_ns && matches!(entry.kind, Kind::Record)
                        });
                        prop_assert!(found.is_some(), "{} is read twice or early", record.time_ns);
                        unread.remove(found.unwrap_or_default());
                    }
                    let rest = unread.iter().any(|entry| matches!(entry.kind, Kind::Record));
                    prop_assert_eq!(ring.is_read_up_to(mark), !rest);
                    if !rest {
                        malformed += unread.iter().filter(|entry| matches!(entry.kind, Kind::Malformed)).count();
                        unread.clear();
                        prop_assert!(ring.is_quiet());
                        prop_assert_eq!(ring.malformed(), malformed as u64);
                    }
                    ring.release();
                    let given_back = writers.consumer();
                    let open = writers.open.iter().map(|entry| entry.position);
                    prop_assert!(open.min().unwrap_or(writers.producer) >= given_back);
                }
            }
        }
        while let Some(entry) = writers.commit(0) {
            unread.push(entry);
        }
        unread.retain(|entry| matches!(entry.kind, Kind::Record));
        prop_assert_eq!(drain(&mut ring).len(), unread.len());
        prop_assert_eq!(writers.consumer(), writers.producer);
    }
}
