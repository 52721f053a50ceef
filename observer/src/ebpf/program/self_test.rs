//! The self-test: a program has to name the observer as the sender of datagrams
//! that the observer sends to itself.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::process;

use observer_common::frame::FRAME_LEN;
use observer_common::record::{Program, Record};

use super::LoadedProgram;
use super::error::{KernelError, system};
use super::load::socket_filter;
use crate::ebpf::namespace::PidNamespace;

impl LoadedProgram {
    /// What the program writes when the observer sends to itself.
    pub(super) fn record_by_unix(&mut self) -> Result<Record, KernelError> {
        let (sender, receiver) = UnixDatagram::pair().map_err(system("socketpair"))?;
        socket_filter(&mut self.ebpf, self.name)?.attach(&receiver)?;
        let frame = probe();
        sender.send(&frame).map_err(system("send to self"))?;
        self.find(&frame, 0)
            .ok_or_else(|| KernelError::SelfTest("it wrote no record".into()))
    }

    /// What the program writes when the observer sends to each of its
    /// listeners, which receive nothing yet.
    pub(super) fn record_by_udp(
        &mut self,
        listeners: &[SocketAddr],
    ) -> Result<Record, KernelError> {
        let mut found = Err(KernelError::SelfTest("there is no listener".into()));
        for &listener in listeners {
            if !self.sees(listener) {
                continue;
            }
            let record = self.record_by_listener(listener).ok_or_else(|| {
                KernelError::SelfTest(format!(
                    "it wrote no record of a datagram to {listener}; does a firewall drop what \
                     goes there, or is the observer outside of the cgroup?"
                ))
            });
            found = Ok(record?);
        }
        found
    }

    /// What it writes when the observer sends to this listener; `None` also if
    /// that cannot be sent.
    fn record_by_listener(&mut self, listener: SocketAddr) -> Option<Record> {
        let (any, loopback): (IpAddr, IpAddr) = match listener {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::LOCALHOST.into()),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into()),
        };
        let mut destination = listener;
        if listener.ip().is_unspecified() {
            destination.set_ip(loopback);
        }
        let sender = UdpSocket::bind((any, 0)).ok()?;
        let frame = probe();
        sender.send_to(&frame, destination).ok()?;
        self.find(&frame, sender.local_addr().ok()?.port())
    }

    /// The record of this datagram, among those of others that were sent at the
    /// same time.
    fn find(&mut self, frame: &[u8; FRAME_LEN], source_port: u16) -> Option<Record> {
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

/// Bytes that nobody else sends. No listener receives them: none is open yet.
fn probe() -> [u8; FRAME_LEN] {
    let mut frame = [0; FRAME_LEN];
    let (words, _) = frame.as_chunks_mut::<8>();
    for word in words {
        *word = RandomState::new().hash_one(process::id()).to_ne_bytes();
    }
    frame
}

/// Compares the record with what the observer is. A program that is wrong here
/// is wrong about every sender: its offsets do not fit this kernel.
pub(super) fn check(
    program: Program,
    own: &Record,
    namespace: &PidNamespace,
) -> Result<(), KernelError> {
    let expected = [
        ("pid", own.pid, process::id()),
        ("own pid", own.own_pid, process::id()),
        ("pid namespace", own.pid_ns_inode, namespace.inode),
        ("program", own.program.into(), program as u32),
    ];
    for (what, found, expected) in expected {
        if found != expected {
            let finding = format!("{what} is {found}, should be {expected}");
            return Err(KernelError::SelfTest(finding));
        }
    }
    Ok(())
}
