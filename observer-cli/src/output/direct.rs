//! Writes to a stream without waiting for its reader.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use crate::stream::Stream;

/// A stream whose writes can be kept from waiting, while other processes that
/// share it see nothing of that.
pub(super) enum Direct {
    /// Opened once more: this description has flags of its own.
    Pipe(OwnedFd),
    /// A socket takes a flag with each send.
    Socket(Stream),
}

impl Direct {
    /// `None` for what has no such way: terminals, files, and a pipe that may
    /// not be opened, as one that another user made.
    pub(super) fn open(stream: Stream) -> Option<Self> {
        let status = fstat(stream.as_fd()).ok()?;
        match FileType::from_raw_mode(status.st_mode) {
            FileType::Fifo => {
                let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                open(stream.path(), flags, Mode::empty())
                    .ok()
                    .map(Self::Pipe)
            }
            FileType::Socket => Some(Self::Socket(stream)),
            _ => None,
        }
    }

    /// Writes some of the bytes, and returns how many.
    ///
    /// # Errors
    /// `WouldBlock` while there is no room; or another error of the write.
    pub(super) fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let written = match self {
                Self::Pipe(pipe) => rustix::io::write(pipe, bytes),
                Self::Socket(stream) => {
                    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                    send(stream.as_fd(), bytes, flags)
                }
            };
            match written {
                Err(Errno::INTR) => {}
                written => return Ok(written?),
            }
        }
    }
}
