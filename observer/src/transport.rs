//! Sockets that datagrams come in by.
//!
//! A [`Receiver`] takes batches from a socket and hands on each datagram with
//! what the kernel attached to it.

mod receive;
mod udp;
mod unix;

#[cfg(test)]
pub(crate) use receive::BATCH;
pub(crate) use receive::Credentials;
pub use receive::{Batch, Datagram, Payload, Receiver};
#[cfg(feature = "internals")]
pub use udp::ClosedUdpSocket;
pub(crate) use udp::Way;
pub use udp::{ClosedUdpListener, UdpError, UdpSocket, address_hint};
pub(crate) use unix::check_path;
pub use unix::{BindError, BoundListener, BoundSocket, FileKind, SocketOptions};
