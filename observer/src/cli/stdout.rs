//! Stdout, whatever it is connected to.

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// How much is written at once, in bytes: what has left is known in steps of
/// this.
const CHUNK: usize = 64 * 1024;

/// The process's stdout. Its file flags are left alone; other processes may
/// share them.
pub(super) struct Stdout;

impl Stdout {
    /// Whether to write colours.
    pub(super) fn color() -> bool {
        let stdout = io::stdout();
        stdout.is_terminal()
            && anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never
    }

    /// Writes some of the bytes, and returns how many. Blocks for as long as
    /// the reader does not read.
    ///
    /// # Errors
    /// `BrokenPipe` where the reader is gone; whatever else the write says.
    pub(super) fn write_some(bytes: &[u8]) -> io::Result<usize> {
        let stdout = io::stdout();
        let chunk = bytes.get(..CHUNK).unwrap_or(bytes);
        loop {
            match rustix::io::write(stdout.as_fd(), chunk) {
                // Somebody who shares it made it non-blocking.
                Err(Errno::AGAIN) => {
                    poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], None)?;
                }
                Err(Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }
}
