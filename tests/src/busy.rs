//! Keeps an entry in an observer's ring uncommitted for a given time: a writer
//! that loses the CPU at the wrong moment, on any kernel and not by
//! chance.
//!
//! A program of the test's own reserves the entry in the observer's own map,
//! copies memory until the time is up, and discards the entry. On a kernel that
//! does not preempt nobody else gets its CPU meanwhile, so it has one for
//! itself.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use observer_common::record::Record;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use rustix::thread::{CpuSet, sched_setaffinity};

/// The CPU of whoever holds an entry.
const HOLDER_CPU: usize = 0;

/// Size of a record, `observer_common::record::Record`.
const ENTRY: usize = size_of::<Record>();

/// A writer that holds an entry of a ring.
pub struct Holder(JoinHandle<()>);

impl Holder {
    /// Reserves an entry in a ring, and keeps it for a time.
    ///
    /// # Panics
    /// If the kernel does not let it.
    #[must_use]
    pub fn start(ring: &OwnedFd, time: Duration) -> Self {
        let program = program(ring, time).expect("root may load it");
        let (sender, receiver) = UnixDatagram::pair().expect("a pair");
        attach(&receiver, &program).expect("it is a socket filter");
        let run = move || {
            pin(None, HOLDER_CPU);
            sender.send(b"x").expect("sends");
            drop(receiver);
        };
        Self(thread::spawn(run))
    }

    /// Whether it has given the entry up.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits until it has.
    ///
    /// # Panics
    /// If it failed.
    pub fn wait(self) {
        self.0.join().expect("it sends");
    }
}

/// The rings that a process has open, each once.
///
/// # Panics
/// If the process is not there, or is not ours to look at.
#[must_use]
pub fn rings_of(pid: u32) -> Vec<OwnedFd> {
    let process = Pid::from_raw(pid.cast_signed()).expect("a pid");
    let process = pidfd_open(process, PidfdFlags::empty()).expect("it runs");
    let folder = format!("/proc/{pid}/fdinfo");
    let descriptors = fs::read_dir(&folder).expect("it runs");
    let ring = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        let info = fs::read_to_string(entry.path()).ok()?;
        // `BPF_MAP_TYPE_RINGBUF` (`bpf_map_show_fdinfo`,
        // `kernel/bpf/syscall.c`).
        info.lines().find(|line| *line == "map_type:\t27")?;
        let id = info.lines().find(|line| line.starts_with("map_id:"))?;
        Some((id.to_owned(), entry.file_name().to_str()?.parse().ok()?))
    };
    let rings: BTreeMap<String, i32> = descriptors.filter_map(ring).collect();
    let flags = PidfdGetfdFlags::empty();
    let get = |number| pidfd_getfd(&process, number, flags).expect("root may");
    rings.into_values().map(get).collect()
}

/// Keeps a process, with all threads that it has, off the holder's CPU.
///
/// # Panics
/// If there is no other CPU.
pub fn keep_off(pid: u32) {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    for task in tasks {
        let name = task.expect("a thread").file_name();
        let tid = name.to_str().and_then(|name| name.parse().ok());
        pin(Pid::from_raw(tid.expect("a number")), HOLDER_CPU + 1);
    }
}

/// Makes a process, and what it forks, run only where nothing else wants to
/// (`SCHED_IDLE`).
///
/// # Panics
/// If there is none.
pub fn make_idle(pid: u32) {
    // SAFETY: any bytes make the structure, which is a number.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: the structure outlives the call.
    let status = unsafe {
        libc::sched_setscheduler(pid.cast_signed(), libc::SCHED_IDLE, &raw const parameters)
    };
    assert_eq!(status, 0, "{}", io::Error::last_os_error());
}

/// Makes the calling thread run on the holder's CPU, or on the other one.
///
/// # Panics
/// If there is only one.
pub fn run_beside_holder(is_beside: bool) {
    pin(
        None,
        if is_beside {
            HOLDER_CPU
        } else {
            HOLDER_CPU + 1
        },
    );
}

fn pin(thread: Option<Pid>, cpu: usize) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    match sched_setaffinity(thread, &cpus) {
        // A thread that has just ended is listed for a moment.
        Err(Errno::SRCH) if thread.is_some() => {}
        pinned => pinned.expect("there are two CPUs"),
    }
}

/// An instruction of BPF (`struct bpf_insn`, `include/uapi/linux/bpf.h`).
#[derive(Clone, Copy)]
#[repr(C)]
struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high one.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn op(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: from << 4 | to,
        offset,
        immediate,
    }
}

/// `BPF_ALU64 | BPF_MOV | BPF_K`
const fn set(to: u8, value: i32) -> Instruction {
    op(0xb7, to, 0, 0, value)
}

/// `BPF_ALU64 | BPF_MOV | BPF_X`
const fn copy(to: u8, from: u8) -> Instruction {
    op(0xbf, to, from, 0, 0)
}

/// `BPF_ALU64 | BPF_ADD | BPF_K`
const fn add(to: u8, value: i32) -> Instruction {
    op(0x07, to, 0, 0, value)
}

/// `BPF_JMP | BPF_CALL`, one of `enum bpf_func_id`
const fn call(helper: i32) -> Instruction {
    op(0x85, 0, 0, 0, helper)
}

/// `BPF_LD | BPF_DW | BPF_IMM` with `BPF_PSEUDO_MAP_FD`, two instructions
fn map(to: u8, map: &OwnedFd) -> [Instruction; 2] {
    let descriptor = map.as_raw_fd();
    [op(0x18, to, 1, 0, descriptor), op(0, 0, 0, 0, 0)]
}

/// Most rounds of copying that the verifier has to follow.
const MOST_ROUNDS: i32 = 4000;

/// What each round copies, bytes: about a millisecond.
const ROUND: u32 = 4 << 20;

/// A socket filter that reserves an entry, waits, discards it, and drops the
/// packet.
fn program(ring: &OwnedFd, time: Duration) -> io::Result<OwnedFd> {
    const LOOKUP: i32 = 1;
    const UPDATE: i32 = 2;
    const CLOCK: i32 = 5;
    const RESERVE: i32 = 131;
    const DISCARD: i32 = 133;
    const MILLISECOND: i32 = 1_000_000;
    /// Jumps, in instructions from the next one.
    const END_FROM_LOOKUP: i16 = 29;
    const END_FROM_RESERVE: i16 = 21;
    const ROUND_AGAIN: i16 = -11;
    let entry = i32::try_from(ENTRY).expect("small");
    let milliseconds = i32::try_from(time.as_millis()).expect("short");
    let memory = memory()?;
    let head = [
        // r9: the second value of the memory, which is copied to the first.
        &[op(0x62, 10, 0, -4, 1)][..],
        &map(1, &memory),
        &[copy(2, 10), add(2, -4), call(LOOKUP)],
        // if r0 == 0 goto end
        &[op(0x15, 0, 0, END_FROM_LOOKUP, 0), copy(9, 0)],
        &[op(0x62, 10, 0, -4, 0)],
        &map(1, ring),
        &[set(2, entry), set(3, 0), call(RESERVE)],
        &[op(0x15, 0, 0, END_FROM_RESERVE, 0), copy(7, 0)],
        // r6: until when.
        &[call(CLOCK), copy(6, 0), set(1, milliseconds)],
        // r1 *= MILLISECOND; r6 += r1; r8: rounds
        &[
            op(0x27, 1, 0, 0, MILLISECOND),
            op(0x0f, 6, 1, 0, 0),
            set(8, 0),
        ],
    ];
    let round = [
        &map(1, &memory)[..],
        &[copy(2, 10), add(2, -4), copy(3, 9), set(4, 0), call(UPDATE)],
        // if r0 > r6 goto discard
        &[call(CLOCK), op(0x2d, 0, 6, 2, 0), add(8, 1)],
        // if r8 < MOST_ROUNDS goto the round's beginning
        &[op(0xa5, 8, 0, ROUND_AGAIN, MOST_ROUNDS)],
    ];
    let tail = [
        // With BPF_RB_NO_WAKEUP.
        &[copy(1, 7), set(2, 1), call(DISCARD)][..],
        &[set(0, 0), op(0x95, 0, 0, 0, 0)],
    ];
    let code: Vec<Instruction> = [&head[..], &round, &tail].concat().concat();
    load(&code)
}

/// An array with two large values.
fn memory() -> io::Result<OwnedFd> {
    const BPF_MAP_CREATE: i32 = 0;
    const BPF_MAP_TYPE_ARRAY: u32 = 2;
    let attributes: [u32; 5] = [BPF_MAP_TYPE_ARRAY, 4, ROUND, 2, 0];
    // SAFETY: these are the first fields of `union bpf_attr`.
    unsafe {
        bpf(
            BPF_MAP_CREATE,
            attributes.as_ptr().cast(),
            size_of_val(&attributes),
        )
    }
}

/// The first fields of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct Load {
    program_type: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

fn load(code: &[Instruction]) -> io::Result<OwnedFd> {
    const BPF_PROG_LOAD: i32 = 5;
    const BPF_PROG_TYPE_SOCKET_FILTER: u32 = 1;
    let mut log = vec![0_u8; 1 << 20];
    let attributes = Load {
        program_type: BPF_PROG_TYPE_SOCKET_FILTER,
        count: u32::try_from(code.len()).expect("few"),
        instructions: code.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 4,
        log_size: u32::try_from(log.len()).expect("small"),
        log: log.as_mut_ptr() as u64,
    };
    // SAFETY: all that the attributes point to outlives the call.
    let program = unsafe {
        bpf(
            BPF_PROG_LOAD,
            (&raw const attributes).cast(),
            size_of_val(&attributes),
        )
    };
    program.inspect_err(|_| println!("{}", String::from_utf8_lossy(&log)))
}

/// # Safety
/// `attributes` must be what the command wants, of that size, and valid.
unsafe fn bpf(command: i32, attributes: *const u8, size: usize) -> io::Result<OwnedFd> {
    // SAFETY: as promised.
    let descriptor = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptor = i32::try_from(descriptor).expect("a descriptor");
    // SAFETY: the kernel just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn attach(socket: &UnixDatagram, program: &OwnedFd) -> io::Result<()> {
    let descriptor = program.as_raw_fd();
    let size = libc::socklen_t::try_from(size_of_val(&descriptor)).expect("small");
    // SAFETY: the option's value is a descriptor, of its size.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_BPF,
            (&raw const descriptor).cast(),
            size,
        )
    };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
