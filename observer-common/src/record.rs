//! The record that an eBPF program writes for each datagram it sees.

use crate::frame::FRAME_LEN;

/// Longest task name that the kernel keeps, with its NUL
/// (`TASK_COMM_LEN`, `include/linux/sched.h`).
pub const COMM_LEN: usize = 16;

/// One send attempt, written by an eBPF program in the sending task.
///
/// A record is an attempt, not a delivery, unless the program took the datagram
/// off the socket ([`Fate::Taken`]): the socket filter runs before the check
/// for a full queue (`unix_dgram_sendmsg`, `net/unix/af_unix.c`), and the
/// cgroup program before the packet leaves (`ip_finish_output`,
/// `net/ipv4/ip_output.c`).
///
/// Every number that names a task is a thread-group id unless it says
/// otherwise, as the frame's `pid` field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::Immutable,
        zerocopy::KnownLayout
    )
)]
#[repr(C)]
pub struct Record {
    /// When the program ran: `bpf_ktime_get_ns`, nanoseconds of
    /// `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// When the sending process started: `task_struct.start_boottime` of the
    /// group leader, nanoseconds of `CLOCK_BOOTTIME`. With the pid it names a
    /// process uniquely. 0: unknown.
    pub start_ns: u64,
    /// Id of the sender's cgroup in the unified hierarchy. 0: unknown.
    pub cgroup_id: u64,
    /// Thread id of the sender in the initial pid namespace.
    pub host_tid: u32,
    /// The sender in the initial pid namespace.
    pub host_pid: u32,
    /// The sender in the observer's pid namespace. 0: not visible there.
    pub pid: u32,
    /// The sender in its own active pid namespace. 0: unknown.
    pub own_pid: u32,
    /// Inode of the sender's active pid namespace. 0: unknown.
    pub pid_ns_inode: u32,
    /// Real user id in the initial user namespace. [`UNKNOWN_ID`]: unknown.
    pub uid: u32,
    /// Real group id in the initial user namespace. [`UNKNOWN_ID`]: unknown.
    pub gid: u32,
    /// Which program wrote the record: a [`Program`] as a number.
    pub program: u8,
    /// What kind of task sent: a [`TaskKind`] as a number.
    pub task_kind: u8,
    /// Depth of the sender's active pid namespace, 0 for the initial one.
    pub level: u8,
    /// What became of the datagram: a [`Fate`] as a number.
    pub fate: u8,
    /// Name of the sending thread, NUL-padded. Empty: unknown. The process can
    /// change it at will, so it is shown to people, and decides nothing.
    pub comm: [u8; COMM_LEN],
    /// The datagram.
    pub frame: [u8; FRAME_LEN],
    /// Address that an IP datagram left with, IPv4 as `::ffff:a.b.c.d`. Zero
    /// for a Unix socket.
    pub source_address: [u8; 16],
    /// Port that it left with, in the machine's byte order. Zero for a Unix
    /// socket.
    pub source_port: u16,
    /// 1: the send may hold bytes of another process, and the record names the
    /// one that flushed it. A `u8` and not a `bool`: no invalid value.
    pub corked: u8,
    /// [`Limit`] as a number: what the sender is beyond. Zero unless
    /// [`Record::fate`] is [`Fate::Throttled`].
    pub limit: u8,
    /// The token that the packet has as its mark; 0: none.
    pub token: u32,
    /// How many datagrams of this sender were throttled so far, or how many
    /// were refused for their descriptors. Zero unless [`Record::fate`] is
    /// [`Fate::Throttled`] or [`Fate::Descriptors`].
    pub dropped: u64,
    /// Inode of the file that the sender's process executes: the kernel's
    /// `inode.i_ino`. 0: unknown.
    pub exe_inode: u64,
    /// Device of the file system that this file is on: the kernel's
    /// `super_block.s_dev`, in the kernel's own encoding of major and minor
    /// numbers. 0: unknown.
    pub exe_device: u32,
    /// Zero: fills the last word up.
    pub unused: u32,
}

#[cfg(feature = "user")]
impl Record {
    /// A record of which nothing is known.
    pub const UNKNOWN: Self = Self {
        time_ns: 0,
        start_ns: 0,
        cgroup_id: 0,
        host_tid: 0,
        host_pid: 0,
        pid: 0,
        own_pid: 0,
        pid_ns_inode: 0,
        uid: UNKNOWN_ID,
        gid: UNKNOWN_ID,
        program: 0,
        task_kind: 0,
        level: 0,
        fate: Fate::Passed as u8,
        comm: [0; COMM_LEN],
        frame: [0; FRAME_LEN],
        source_address: [0; 16],
        source_port: 0,
        corked: 0,
        limit: 0,
        token: 0,
        dropped: 0,
        exe_inode: 0,
        exe_device: 0,
        unused: 0,
    };
}

/// A user or group id that the program could not learn. The kernel itself
/// uses this value for "no id" (`INVALID_UID`, `include/linux/uidgid.h`).
pub const UNKNOWN_ID: u32 = u32::MAX;

/// Which program wrote a record, and so which fields it fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Program {
    /// The socket filter that reads `task_struct` through BTF: every field.
    UnixBtf = 1,
    /// The socket filter that has helper functions only: the times, pids in
    /// the initial and the observer's namespace, nothing else.
    UnixHelper = 2,
    /// The cgroup program for IP datagrams that reads `task_struct` through
    /// BTF: every field.
    UdpBtf = 3,
}

/// What kind of task a sender is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TaskKind {
    /// The program had no way to find out.
    Unknown = 0,
    /// A thread of the sender's own.
    Thread = 1,
    /// An `io-wq` worker: the kernel carries out what some thread submitted.
    IoWorker = 2,
    /// An io_uring SQPOLL thread: every process that maps the io_uring sends in
    /// its name.
    SqPoll = 3,
}

/// What became of a record's datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fate {
    /// It went on to the socket, which may have had room for it or not.
    Passed = 0,
    /// The program took it off the socket: this record is its only delivery.
    Taken = 1,
    /// It was throttled, as others of the same sender may have been. Such a
    /// record is written at most once a second for each sender.
    Throttled = 2,
    /// It was refused for the descriptors attached to it, as others of the same
    /// sender may have been. Written as often.
    Descriptors = 3,
    /// It left by another device than `lo`, from the observer's own network
    /// namespace. If it comes back it is no other host's, and this record does
    /// not attest it.
    Away = 4,
}

/// The limit that a throttled sender is beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Limit {
    /// Its own budget.
    Process = 1,
    /// The budget that its user's strangers share: processes that no beat has
    /// been accepted of.
    User = 2,
    /// The budget that its cgroup's strangers share.
    Cgroup = 3,
    /// Its share of a ring that is filling up.
    Ring = 4,
}

macro_rules! from_number {
    ($name:ident { $($variant:ident),* }) => {
        impl TryFrom<u8> for $name {
            /// The number that stands for nothing.
            type Error = u8;

            fn try_from(number: u8) -> Result<Self, u8> {
                match number {
                    $(n if n == $name::$variant as u8 => Ok($name::$variant),)*
                    other => Err(other),
                }
            }
        }
    };
}
from_number!(Program {
    UnixBtf,
    UnixHelper,
    UdpBtf
});
from_number!(Fate {
    Passed,
    Taken,
    Throttled,
    Descriptors,
    Away
});
from_number!(Limit {
    Process,
    User,
    Cgroup,
    Ring
});
from_number!(TaskKind {
    Unknown,
    Thread,
    IoWorker,
    SqPoll
});

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Record>() == 152);
    assert!(align_of::<Record>() == 8);
    assert!(offset_of!(Record, time_ns) == 0);
    assert!(offset_of!(Record, start_ns) == 8);
    assert!(offset_of!(Record, cgroup_id) == 16);
    assert!(offset_of!(Record, host_tid) == 24);
    assert!(offset_of!(Record, host_pid) == 28);
    assert!(offset_of!(Record, pid) == 32);
    assert!(offset_of!(Record, own_pid) == 36);
    assert!(offset_of!(Record, pid_ns_inode) == 40);
    assert!(offset_of!(Record, uid) == 44);
    assert!(offset_of!(Record, gid) == 48);
    assert!(offset_of!(Record, program) == 52);
    assert!(offset_of!(Record, task_kind) == 53);
    assert!(offset_of!(Record, level) == 54);
    assert!(offset_of!(Record, fate) == 55);
    assert!(offset_of!(Record, comm) == 56);
    assert!(offset_of!(Record, frame) == 72);
    assert!(offset_of!(Record, source_address) == 104);
    assert!(offset_of!(Record, source_port) == 120);
    assert!(offset_of!(Record, corked) == 122);
    assert!(offset_of!(Record, limit) == 123);
    assert!(offset_of!(Record, token) == 124);
    assert!(offset_of!(Record, dropped) == 128);
    assert!(offset_of!(Record, exe_inode) == 136);
    assert!(offset_of!(Record, exe_device) == 144);
    assert!(offset_of!(Record, unused) == 148);
};
