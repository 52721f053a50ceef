//! An attacker that attaches to its frame a TCP socket which takes long to
//! close: `linger SOCKET SECONDS`.
//!
//! The socket has data that its peer does not read, and `SO_LINGER`: whoever
//! closes it last waits for so many seconds (`inet_release`,
//! `net/ipv4/af_inet.c`). The attacker is without privileges once it is
//! connected. It prints 1 if its send was refused, else 0, closes the socket
//! itself, and stays until its stdin is closed.

use std::io::{ErrorKind, IoSlice, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::process;

use nix::errno::Errno;
use nix::sys::socket::sockopt::Linger;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg, setsockopt};
use observer_testing::frame;
use observer_tests::attacker::NOBODY;
use observer_tests::process::{arguments, become_user, number, wait_for_end};
use observer_tests::socket::unix;

fn main() {
    let [path, seconds] = arguments("linger SOCKET SECONDS");
    let socket = unix(&path);
    become_user(NOBODY);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let attached = unread(&listener, number(&seconds));
    println!("{}", u8::from(is_refused(&socket, &attached)));
    drop(attached);
    // Without the listener the connections would be reset, and nobody linger.
    wait_for_end();
}

/// A connection with as much unread as there is room for.
fn unread(listener: &TcpListener, seconds: i32) -> TcpStream {
    let address = listener.local_addr().expect("it is bound");
    let mut stream = TcpStream::connect(address).expect("connects");
    // The peer stays in the listener's backlog.
    stream.set_nonblocking(true).expect("a flag");
    let full = loop {
        if let Err(error) = stream.write(&[0; 8192]) {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    stream.set_nonblocking(false).expect("a flag");
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: seconds,
    };
    setsockopt(&stream, Linger, &linger).expect("an option");
    stream
}

/// Whether a frame with this socket attached is refused.
fn is_refused(socket: &UnixDatagram, attached: &TcpStream) -> bool {
    let bytes = frame(process::id(), 1).encode();
    let descriptors = [attached.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&descriptors)];
    let payload = [IoSlice::new(&bytes)];
    match sendmsg::<()>(
        socket.as_raw_fd(),
        &payload,
        &control,
        MsgFlags::empty(),
        None,
    ) {
        Ok(_) => false,
        Err(errno) => {
            assert_eq!(errno, Errno::EPERM);
            true
        }
    }
}
