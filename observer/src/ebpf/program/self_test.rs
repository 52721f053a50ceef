//! The self-test: a program has to describe the observer as the sender of
//! datagrams that the observer sends to itself, in all that is known of it.

pub(super) mod stat;
pub(super) mod truth;

use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::process;
use std::thread;

use observer_common::frame::FRAME_LEN;
use observer_common::record::{Program, Record};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, send, sendmsg};

use self::stat::Stat;
use self::truth::Truth;
use super::LoadedProgram;
use super::error::{KernelError, system};
use super::load::socket_filter;
use crate::ebpf::namespace::PidNamespace;
use crate::transport::address_hint;

impl LoadedProgram {
    /// What the program writes when the observer sends to itself, and what is
    /// known of the thread that sent.
    pub(super) fn record_by_unix(
        &mut self,
        namespace: &PidNamespace,
    ) -> Result<(Truth, Record), KernelError> {
        let pair = Pair::attached_to(self)?;
        let sent = pair.send_by_thread(namespace)?;
        let record = self.find(&sent.frame, 0);
        let record = record.ok_or_else(|| KernelError::SelfTest("it wrote no record".into()))?;
        Ok((sent.truth, record))
    }

    /// What the program writes when the observer sends to each of its
    /// listeners, which receive nothing yet.
    pub(super) fn record_by_udp(
        &mut self,
        listeners: &[SocketAddr],
        namespace: &PidNamespace,
    ) -> Result<(Truth, Record), KernelError> {
        let truth = Truth::of_this_thread(namespace);
        let seen: Vec<SocketAddr> = listeners
            .iter()
            .copied()
            .filter(|&listener| self.sees(listener))
            .collect();
        let mut found = Err(KernelError::SelfTest("there is no listener".into()));
        for &listener in &seen {
            let record = self.record_by_listener(listener, Sending::AtOnce);
            let record = record.map_err(|error| {
                let hint = address_hint(listener, &error);
                KernelError::SelfTest(format!("cannot send to {listener}: {error}{hint}"))
            })?;
            let record = record.ok_or_else(|| {
                KernelError::SelfTest(format!(
                    "it wrote no record of a datagram to {listener}; does a firewall drop what \
                     goes there, or is the observer outside of the cgroup?"
                ))
            })?;
            if record.corked != 0 {
                return Err(KernelError::SelfTest(
                    "it takes each send for a corked one".into(),
                ));
            }
            found = Ok(record);
        }
        // Once, and not for each listener: the program's limits hold here too, and
        // where they are low it has no record.
        let corked = seen
            .first()
            .and_then(|&listener| self.record_by_listener(listener, Sending::InPieces).ok()?);
        if corked.is_some_and(|record| record.corked == 0) {
            let finding = "it does not see that a send is corked";
            return Err(KernelError::SelfTest(finding.into()));
        }
        Ok((truth.unless_moved(), found?))
    }

    /// What it writes when the observer sends to this listener.
    fn record_by_listener(
        &mut self,
        listener: SocketAddr,
        how: Sending,
    ) -> io::Result<Option<Record>> {
        let (any, loopback): (IpAddr, IpAddr) = match listener {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::LOCALHOST.into()),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into()),
        };
        let mut destination = listener;
        if listener.ip().is_unspecified() {
            destination.set_ip(loopback);
        }
        let sender = UdpSocket::bind((any, 0))?;
        let frame = probe();
        match how {
            Sending::AtOnce => {
                sender.send_to(&frame, destination)?;
            }
            Sending::InPieces => {
                sender.connect(destination)?;
                let (first, second) = frame.split_at(FRAME_LEN / 2);
                send(&sender, first, SendFlags::MORE)?;
                send(&sender, second, SendFlags::empty())?;
            }
        }
        Ok(self.find(&frame, sender.local_addr()?.port()))
    }

    /// The record of this datagram, among those of others that were sent at the
    /// same time.
    pub(super) fn find(&mut self, frame: &[u8; FRAME_LEN], source_port: u16) -> Option<Record> {
        let mark = self.ring.mark();
        self.ring.begin_look();
        let mut found = None;
        while let Some(record) = self.ring.peek(mark) {
            self.ring.advance();
            if record.frame == *frame && record.source_port == source_port {
                found = Some(record);
            }
        }
        self.ring.release();
        found
    }
}

/// A socket that is sent to, with a program attached, and one to send by.
pub(super) struct Pair {
    sender: UnixDatagram,
    receiver: UnixDatagram,
}

/// A datagram that was sent, and by whom.
pub(super) struct SentByThread {
    pub(super) frame: [u8; FRAME_LEN],
    pub(super) truth: Truth,
    /// `task_struct.flags`, as `/proc` showed them before and after.
    pub(super) flags: Option<u32>,
    /// It was sent by a thread of its own, which is not the process's first.
    pub(super) is_thread: bool,
}

impl Pair {
    pub(super) fn attached_to(program: &mut LoadedProgram) -> Result<Self, KernelError> {
        let (sender, receiver) = UnixDatagram::pair().map_err(system("socketpair"))?;
        for socket in [&sender, &receiver] {
            socket
                .set_nonblocking(true)
                .map_err(system("set_nonblocking"))?;
        }
        let name = program.name;
        socket_filter(&mut program.ebpf, name)?.attach(&receiver)?;
        Ok(Self { sender, receiver })
    }

    pub(super) fn sender(&self) -> BorrowedFd<'_> {
        self.sender.as_fd()
    }

    /// Sends in a thread whose id is not the process's, or in this one where no
    /// thread can be started.
    pub(super) fn send_by_thread(
        &self,
        namespace: &PidNamespace,
    ) -> Result<SentByThread, KernelError> {
        let from = |is_thread| self.send_here(namespace, is_thread);
        let sent = thread::scope(|scope| {
            let thread = thread::Builder::new().name("self-test".into());
            match thread.spawn_scoped(scope, || from(true)) {
                Ok(thread) => thread.join().unwrap_or_else(|_| from(false)),
                Err(_) => from(false),
            }
        });
        sent.map_err(system("send to self"))
    }

    fn send_here(&self, namespace: &PidNamespace, is_thread: bool) -> io::Result<SentByThread> {
        let frame = probe();
        let before = Truth::of_this_thread(namespace);
        let flags = || Stat::of("thread-self").and_then(|stat| stat.flags);
        let flags_before = flags();
        self.sender.send(&frame)?;
        let flags_after = flags();
        self.drain();
        Ok(SentByThread {
            frame,
            truth: before.unless_moved(),
            flags: flags_before.filter(|_| flags_before == flags_after),
            is_thread,
        })
    }

    /// Sends a datagram with a descriptor, which the program may drop.
    pub(super) fn send_with_descriptor(&self, frame: &[u8; FRAME_LEN]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [self.sender.as_fd()];
        if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::Error::other("there is no room for a descriptor"));
        }
        let payload = [IoSlice::new(frame)];
        sendmsg(&self.sender, &payload, &mut control, SendFlags::NOSIGNAL)?;
        self.drain();
        Ok(())
    }

    /// Sends once the other end does not receive any more: an error is what is
    /// to be expected.
    pub(super) fn send_after_shutdown(&self, frame: &[u8; FRAME_LEN]) -> io::Result<()> {
        self.receiver.shutdown(Shutdown::Read)?;
        match self.sender.send(frame) {
            Ok(_) => Err(io::Error::other("a socket that was shut down received")),
            Err(_) => Ok(()),
        }
    }

    /// Makes room: a socket's queue may hold a single datagram.
    pub(super) fn drain(&self) {
        let mut buffer = [0; FRAME_LEN];
        while self.receiver.recv(&mut buffer).is_ok() {}
    }
}

/// How a datagram is sent by UDP.
#[derive(Clone, Copy)]
enum Sending {
    AtOnce,
    /// By two calls (`MSG_MORE`), between which another process could add to it.
    InPieces,
}

/// Bytes that nobody else sends. No listener receives them: none is open yet.
pub(super) fn probe() -> [u8; FRAME_LEN] {
    let mut frame = [0; FRAME_LEN];
    let (words, _) = frame.as_chunks_mut::<8>();
    for word in words {
        *word = RandomState::new().hash_one(process::id()).to_ne_bytes();
    }
    frame
}

/// Compares a program's record with what its sender is. A program that is wrong
/// here is wrong about every sender: its offsets do not fit this kernel.
pub(super) fn check(program: Program, truth: &Truth, record: &Record) -> Result<(), KernelError> {
    let found = record.program;
    if found != program as u8 {
        let finding = format!("program is {found}, should be {}", program as u8);
        return Err(KernelError::SelfTest(finding));
    }
    compare(&truth.as_seen_by(program), record)
}

/// Compares a record with what its sender is.
pub(super) fn compare(truth: &Truth, record: &Record) -> Result<(), KernelError> {
    truth.compare(record).map_err(KernelError::SelfTest)
}
