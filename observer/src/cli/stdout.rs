//! Stdout, written without ever blocking the event loop.

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use rustix::io::Errno;

/// How long to wait before a full pipe is looked at again.
const RETRY: Duration = Duration::from_millis(5);
/// A pipe that polls writable takes this much without blocking (`PIPE_BUF`;
/// `pipe_write`, `fs/pipe.c`, Linux 6.1).
const PIPE_CHUNK: usize = 4096;

/// The process's stdout, whatever it is connected to.
///
/// Nothing is dropped: while its reader does not read, the writer waits. The
/// wait is the event loop's, not the thread's, so that a signal still ends
/// it. Stdout's file flags are left alone; other processes may share them.
pub(super) struct Stdout {
    chunk: usize,
}

impl Stdout {
    pub(super) fn new() -> Self {
        let is_file = rustix::fs::fstat(io::stdout())
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        Self {
            chunk: if is_file { usize::MAX } else { PIPE_CHUNK },
        }
    }

    /// Whether to write colours.
    pub(super) fn color() -> bool {
        let stdout = io::stdout();
        stdout.is_terminal()
            && anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never
    }

    /// Writes the buffer and empties it. Dropped half-way, it leaves in the
    /// buffer what is not yet written.
    ///
    /// # Errors
    /// `BrokenPipe` where the reader is gone; whatever else the write says.
    pub(super) async fn write_all(&self, buffer: &mut BytesMut) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.write_some(buffer) {
                Ok(written) => buffer.advance(written),
                Err(Errno::AGAIN) => tokio::time::sleep(RETRY).await,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn write_some(&self, buffer: &[u8]) -> rustix::io::Result<usize> {
        let stdout = io::stdout();
        let mut fds = [PollFd::new(&stdout, PollFlags::OUT)];
        // An error condition is an answer too: the write then says which.
        if poll(&mut fds, Some(&Timespec::default()))? == 0 {
            return Err(Errno::AGAIN);
        }
        let chunk = buffer.get(..self.chunk).unwrap_or(buffer);
        rustix::io::write(stdout.as_fd(), chunk)
    }
}
