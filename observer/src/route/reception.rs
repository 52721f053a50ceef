//! Whether a socket can be received from, and when to try again if not.
//!
//! The first receive that fails is repeated at once: an error that waited in
//! the socket is gone then. If the next one fails as well, the socket is
//! *deaf*, and it is tried again after pauses that grow. A socket that is owed
//! a receive is received from although nothing comes: what announced its
//! datagrams did so before (`EPOLLET`).

use std::io;

use crate::clock::monotonic_ns;

/// The first pause, nanoseconds.
const FIRST_PAUSE_NS: u64 = 10_000_000;

/// The longest.
const LONGEST_PAUSE_NS: u64 = 1_000_000_000;

/// What the last receives from a socket have shown.
#[derive(Debug, Default)]
pub(super) struct Reception {
    /// How many failed since one did well.
    failures: u32,
    /// What the last of them failed with.
    errno: Option<i32>,
    /// When the socket is owed a receive, in nanoseconds of `CLOCK_MONOTONIC`;
    /// 0: at once.
    owed_ns: Option<u64>,
}

impl Reception {
    /// Notes that a receive did well, and whether it left nothing.
    pub(super) fn note_received(&mut self, is_drained: bool) {
        if self.owed_ns.is_some() {
            *self = Self {
                owed_ns: (!is_drained).then_some(0),
                ..Self::default()
            };
        }
    }

    /// Notes that a receive failed at this moment; returns whether that is to
    /// be reported: it is another error than the one before.
    pub(super) fn note_failure(&mut self, error: &io::Error, now_ns: u64) -> bool {
        let errno = error.raw_os_error();
        let is_new = self.failures == 0 || self.errno != errno;
        self.failures = self.failures.saturating_add(1);
        self.errno = errno;
        self.owed_ns = Some(match self.failures {
            1 => 0,
            failures => now_ns.saturating_add(pause_after(failures)),
        });
        is_new
    }

    /// When the socket is owed a receive, if it is, in nanoseconds of
    /// `CLOCK_MONOTONIC`.
    pub(super) fn owed_ns(&self) -> Option<u64> {
        self.owed_ns
    }

    /// Whether the time for that has come.
    pub(super) fn is_due(&self) -> bool {
        self.owed_ns.is_some_and(|owed| owed <= monotonic_ns())
    }

    /// Whether it has not, and the socket is to be left alone.
    pub(super) fn is_paused(&self) -> bool {
        self.owed_ns.is_some_and(|owed| owed > monotonic_ns())
    }

    /// Whether the socket cannot be received from.
    pub(super) fn is_deaf(&self) -> bool {
        self.failures > 1
    }

    /// What it fails with then.
    pub(super) fn why_deaf(&self) -> Option<io::Error> {
        let errno = self.errno.filter(|_| self.is_deaf());
        errno.map(io::Error::from_raw_os_error)
    }
}

/// The pause after so many failures, two at least.
fn pause_after(failures: u32) -> u64 {
    let doublings = failures.saturating_sub(2);
    let pause = FIRST_PAUSE_NS.checked_shl(doublings.min(u64::BITS / 2));
    pause.unwrap_or(LONGEST_PAUSE_NS).min(LONGEST_PAUSE_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(errno: i32) -> io::Error {
        io::Error::from_raw_os_error(errno)
    }

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let pauses = [2, 3, 4, 5, 6, 7, 8, 9, 1000, u32::MAX].map(pause_after);
        let expected = [10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000];
        assert_eq!(
            pauses,
            expected.map(|milliseconds| milliseconds * 1_000_000)
        );
    }

    #[test]
    fn the_first_failure_is_repeated_at_once_and_the_next_after_a_pause() {
        let mut reception = Reception::default();
        assert_eq!(reception.owed_ns(), None);
        assert!(reception.note_failure(&error(libc::EPERM), 5));
        assert!(reception.is_due() && !reception.is_paused());
        assert!(!reception.is_deaf());
        assert!(!reception.note_failure(&error(libc::EPERM), 5));
        assert_eq!(reception.owed_ns(), Some(5 + FIRST_PAUSE_NS));
        let why = reception.why_deaf().expect("it is deaf");
        assert_eq!(why.raw_os_error(), Some(libc::EPERM));
        assert!(reception.note_failure(&error(libc::EIO), 6), "another");
        assert_eq!(reception.owed_ns(), Some(6 + 2 * FIRST_PAUSE_NS));
    }

    /// What came while it failed announces itself no more.
    #[test]
    fn after_a_failure_the_socket_is_read_until_it_is_empty() {
        let mut reception = Reception::default();
        reception.note_failure(&error(libc::ENOMEM), 5);
        reception.note_failure(&error(libc::ENOMEM), 5);
        reception.note_received(false);
        assert!(!reception.is_deaf() && reception.is_due());
        reception.note_received(true);
        assert_eq!(reception.owed_ns(), None);
        assert!(reception.note_failure(&error(libc::ENOMEM), 5), "anew");
    }
}
