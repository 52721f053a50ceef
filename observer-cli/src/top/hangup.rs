//! The end of the terminal.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::process;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Ends the process once its terminal is gone: as when a window is closed, and
/// SIGHUP is ignored or goes to others.
///
/// This has a thread of its own because no other can be relied on then:
/// crossterm (0.29, `event/source/unix/mio.rs`) reads from a terminal that is
/// gone again and again, on the thread that waits for keys or on the one that
/// draws.
///
/// # Errors
/// If there can be no thread.
pub(super) fn end_with_terminal() -> io::Result<()> {
    let watch = || {
        if waits_for_hangup(io::stdin().as_fd()) {
            process::exit(1);
        }
    };
    thread::Builder::new()
        .name("hangup".into())
        .spawn(watch)
        .map(drop)
}

/// Waits for the end of the terminal; false if the system does not let it.
/// Nothing is asked for: a hang-up is reported in any case (`poll(2)`).
fn waits_for_hangup(terminal: BorrowedFd<'_>) -> bool {
    loop {
        let mut ends = [PollFd::from_borrowed_fd(terminal, PollFlags::empty())];
        match poll(&mut ends, None) {
            Ok(_) => return true,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}
