//! Stdout and stderr, whatever they are connected to.

use std::io::{self, IsTerminal as _};
use std::os::fd::BorrowedFd;

use anstream::{AutoStream, ColorChoice};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// How much is written at once, in bytes: progress is known in steps of this.
const CHUNK: usize = 64 * 1024;

/// One of the process's own streams. Its file flags are left alone; other
/// processes may share them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// Its name, as of its thread.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// Its descriptor.
    pub(crate) fn as_fd(self) -> BorrowedFd<'static> {
        match self {
            Self::Stdout => rustix::stdio::stdout(),
            Self::Stderr => rustix::stdio::stderr(),
        }
    }

    /// By which it can be opened once more.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Stdout => "/proc/self/fd/1",
            Self::Stderr => "/proc/self/fd/2",
        }
    }

    /// Whether to write colours.
    pub(crate) fn color(self) -> bool {
        match self {
            Self::Stdout => {
                let stdout = io::stdout();
                stdout.is_terminal() && AutoStream::choice(&stdout) != ColorChoice::Never
            }
            Self::Stderr => {
                let stderr = io::stderr();
                stderr.is_terminal() && AutoStream::choice(&stderr) != ColorChoice::Never
            }
        }
    }

    /// Writes some of the bytes, and returns how many. Blocks for as long as
    /// the reader does not read.
    ///
    /// # Errors
    /// `BrokenPipe` where the reader is gone; or another error of the write.
    pub(crate) fn write_some(self, bytes: &[u8]) -> io::Result<usize> {
        write_some(self.as_fd(), bytes)
    }
}

fn write_some(stream: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let chunk = bytes.get(..CHUNK).unwrap_or(bytes);
    loop {
        match rustix::io::write(stream, chunk) {
            // Somebody who shares it made it non-blocking.
            Err(Errno::AGAIN) => {
                poll(
                    &mut [PollFd::from_borrowed_fd(stream, PollFlags::OUT)],
                    None,
                )?;
            }
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}
