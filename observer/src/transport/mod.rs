//! Sockets that datagrams come in by.
//!
//! A [`Receiver`] takes batches from a socket and hands on each datagram with
//! what the kernel attached to it.

mod receive;
mod udp;
mod unix;

pub use receive::{BATCH, Credentials, Datagram, Payload, Receiver};
pub(crate) use udp::Way;
pub use udp::{ClosedUdpListener, ClosedUdpSocket, UdpError, UdpSocket};
pub use unix::{BindError, BoundListener, BoundSocket, FileKind, SocketOptions, UnboundSocket};
