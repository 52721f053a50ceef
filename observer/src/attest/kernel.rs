//! Loads the eBPF programs and attaches them.

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd},
        unix::net::UnixDatagram,
    },
    path::Path,
    process,
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{MapData, MapError, PerCpuArray, RingBuf},
    programs::{ProgramError, SocketFilter},
};
use observer_common::{
    frame::FRAME_LEN,
    layout::Layout,
    loss::Loss,
    record::{Program, Record},
};
use thiserror::Error;
use zerocopy::IntoBytes as _;

use super::{
    layout::{self, LayoutError},
    namespace::PidNamespace,
    object,
    ring::Ring,
};

/// Why a tier cannot be used on this host.
#[derive(Debug, Error)]
pub enum KernelError {
    /// The binary was built where no BPF toolchain was at hand.
    #[error("this binary was built without its eBPF object; build it with `cargo xtask run`")]
    NoObject,
    /// The observer's own pid namespace cannot be read.
    #[error("cannot read /proc/self/ns/pid: {0}; mount /proc")]
    Namespace(io::Error),
    /// The field offsets cannot be had.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The kernel refused a map or the object itself.
    #[error("the kernel refused the eBPF maps: {}", chain(.0))]
    Object(#[from] EbpfError),
    /// The kernel refused the program.
    #[error("the kernel refused the eBPF program: {}", summary(.0))]
    Program(#[from] ProgramError),
    /// A map is not what it should be.
    #[error("the eBPF object is damaged: {0}")]
    Map(#[from] MapError),
    /// A map or program of that name is not in the object.
    #[error("the eBPF object has no {0}")]
    Absent(&'static str),
    /// A system call on the way failed.
    #[error("{what}: {error}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// The program does not tell the truth about the observer itself.
    #[error("the eBPF program fails its self-test: {0}")]
    SelfTest(String),
}

/// A loaded program with its maps.
pub(super) struct Kernel {
    ebpf: Ebpf,
    program: Program,
    pub(super) ring: Ring,
    losses: PerCpuArray<MapData, u64>,
    #[cfg(feature = "ebpf-log")]
    pub(super) debug_log: super::debug_log::DebugLog,
}

/// The size of the ring where nobody asks for another: about 9,000 records,
/// a tenth of a second of the fastest flood that one sender can make.
pub(crate) const DEFAULT_RING_BYTES: u32 = 1 << 20;

impl Kernel {
    /// Loads a program and has it prove itself on a datagram of the
    /// observer's own.
    ///
    /// The depth of the observer's pid namespace is learnt on the way: in a
    /// container `/proc` does not tell it, the program does.
    pub(super) fn load(program: Program, btf: &Path, ring_bytes: u32) -> Result<Self, KernelError> {
        let namespace = PidNamespace::of_self().map_err(KernelError::Namespace)?;
        let (mut kernel, own) = Self::load_at(program, btf, ring_bytes, &namespace, 0)?;
        let level = u32::from(own.level);
        if level == 0 {
            kernel.check(&own, &namespace)?;
            return Ok(kernel);
        }
        let (mut kernel, own) = Self::load_at(program, btf, ring_bytes, &namespace, level)?;
        kernel.check(&own, &namespace)?;
        Ok(kernel)
    }

    fn load_at(
        program: Program,
        btf: &Path,
        ring_bytes: u32,
        namespace: &PidNamespace,
        level: u32,
    ) -> Result<(Self, Record), KernelError> {
        let layout = match program {
            Program::UnixBtf => layout::resolve(btf, namespace, level)?,
            Program::UnixHelper => Layout {
                observer_ns_inode: namespace.inode,
                observer_ns_dev: namespace.device,
                ..Layout::UNRESOLVED
            },
        };
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .override_global("LAYOUT", layout.as_bytes(), true)
            .map_max_entries("RECORDS", ring_bytes)
            .load(object::bytes().ok_or(KernelError::NoObject)?)?;
        filter(&mut ebpf, program)?.load()?;
        let mut kernel = Self {
            ring: Ring::new(RingBuf::try_from(take(&mut ebpf, "RECORDS")?)?)
                .map_err(system("cannot map the ring"))?,
            losses: PerCpuArray::try_from(take(&mut ebpf, "LOSS")?)?,
            #[cfg(feature = "ebpf-log")]
            debug_log: super::debug_log::DebugLog::start(&mut ebpf),
            ebpf,
            program,
        };
        let own = kernel.record_of_self()?;
        Ok((kernel, own))
    }

    /// Attaches the program to a socket and locks it there: from now on every
    /// datagram to the socket has a record, and who gets hold of the
    /// descriptor cannot take the filter off.
    pub(super) fn attach(&mut self, socket: BorrowedFd<'_>) -> Result<(), KernelError> {
        filter(&mut self.ebpf, self.program)?.attach(socket)?;
        lock_filter(socket).map_err(system("SO_LOCK_FILTER"))
    }

    /// Reads a counter, summed over the CPUs.
    pub(super) fn loss(&self, loss: Loss) -> u64 {
        self.losses
            .get(&(loss as u32), 0)
            .map(|per_cpu| per_cpu.iter().fold(0, |sum: u64, n| sum.saturating_add(*n)))
            .unwrap_or_default()
    }

    /// What the program writes when the observer sends to itself.
    fn record_of_self(&mut self) -> Result<Record, KernelError> {
        let (sender, receiver) = UnixDatagram::pair().map_err(system("socketpair"))?;
        filter(&mut self.ebpf, self.program)?.attach(&receiver)?;
        sender
            .send(&[0; FRAME_LEN])
            .map_err(system("send to self"))?;
        let mut own = None;
        self.ring
            .read_up_to(self.ring.mark(), |record| own = Some(*record));
        own.ok_or_else(|| KernelError::SelfTest("it wrote no record".into()))
    }

    /// A program that is wrong about the observer is wrong about everyone:
    /// its offsets do not fit this kernel.
    fn check(&mut self, own: &Record, namespace: &PidNamespace) -> Result<(), KernelError> {
        let expected = [
            ("pid", u64::from(own.pid), u64::from(process::id())),
            ("own pid", u64::from(own.own_pid), u64::from(process::id())),
            (
                "pid namespace",
                u64::from(own.pid_ns_inode),
                u64::from(namespace.inode),
            ),
            ("program", u64::from(own.program), self.program as u64),
        ];
        for (what, found, expected) in expected {
            if found != expected {
                let finding = format!("{what} is {found}, should be {expected}");
                return Err(KernelError::SelfTest(finding));
            }
        }
        Ok(())
    }
}

fn filter(ebpf: &mut Ebpf, program: Program) -> Result<&mut SocketFilter, KernelError> {
    let name = match program {
        Program::UnixBtf => "unix_btf",
        Program::UnixHelper => "unix_helper",
    };
    let program = ebpf.program_mut(name).ok_or(KernelError::Absent(name))?;
    Ok(program.try_into()?)
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, KernelError> {
    ebpf.take_map(name).ok_or(KernelError::Absent(name))
}

fn system(what: &'static str) -> impl Fn(io::Error) -> KernelError {
    move |error| KernelError::System { what, error }
}

/// Forbids to detach or replace the filter (`SO_LOCK_FILTER`,
/// `sk_setsockopt`, `net/core/sock.c`); the lock cannot be taken off.
fn lock_filter(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option takes an int; pointer and length are those of `on`,
    // which outlives the call.
    let status = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LOCK_FILTER,
            (&raw const on).cast(),
            INT_LEN,
        )
    };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Length of an int option.
const INT_LEN: libc::socklen_t = 4;

const _: () = assert!(INT_LEN as usize == size_of::<libc::c_int>());

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// How the verifier's lines of statistics begin.
const STATISTICS: [&str; 3] = ["processed ", "stack depth ", "verification time "];

/// The refusal and the verifier's last word; its log has thousands of lines,
/// and statistics at its end.
fn summary(error: &ProgramError) -> String {
    let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    else {
        return chain(error);
    };
    let log = verifier_log.to_string();
    let last = log
        .lines()
        .rev()
        .find(|line| !line.is_empty() && !STATISTICS.iter().any(|start| line.starts_with(start)))
        .unwrap_or_default();
    format!("{io_error} ({last})")
}
