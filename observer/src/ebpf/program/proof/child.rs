//! A process that sends one datagram and ends: another sender than the
//! observer, with other values in its fields.
//!
//! It is a copy of this process, made by the system call `clone`, and not
//! another program: a library cannot know of one. So until it ends it may do
//! nothing but system calls, since other threads may have held any lock when it
//! was made (`signal-safety(7)`): it allocates nothing and does not return. It
//! has all signals blocked, or a signal to the process group would have it run
//! handlers of the observer's. It sends no `SIGCHLD` when it ends, and so is
//! nobody's to wait for but ours: waiting for any child does not find it.
//!
//! A child and not a thread: it may change its user without any effect on this
//! process (`commit_creds`, `kernel/cred.c`, makes the memory of all its threads
//! undumpable), and where a seccomp filter kills who tries, it kills the child.

use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;

use observer_common::frame::FRAME_LEN;
use observer_common::record::COMM_LEN;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::uring::Uring;

/// The ids that a child takes on: real, effective and saved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ids {
    pub(super) users: [u32; 3],
    pub(super) groups: [u32; 3],
}

/// What a child is to be.
#[derive(Debug)]
pub(super) struct Role<'a> {
    /// Namespaces of its own: flags of `clone`.
    pub(super) namespaces: libc::c_int,
    /// `None`: it stays who it is.
    pub(super) ids: Option<Ids>,
    /// `None`: it sends itself.
    pub(super) uring: Option<Uring>,
    pub(super) comm: &'a [u8; COMM_LEN],
    pub(super) socket: BorrowedFd<'a>,
    pub(super) frame: &'a [u8; FRAME_LEN],
}

/// A child that waits for the word to go on.
#[derive(Debug)]
pub(super) struct Child {
    pid: libc::pid_t,
    /// Where it gets the word. Shut down, the child ends.
    word: UnixStream,
    has_ended: bool,
}

/// How long a child may take.
const PATIENCE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// How a child that could not play its role ends.
const NO_IDS: libc::c_int = 2;
const NOT_SENT: libc::c_int = 3;

impl Child {
    /// Starts one. It sends nothing yet, so that it can be looked at before.
    pub(super) fn start(role: &Role<'_>) -> io::Result<Self> {
        let (word, other) = UnixStream::pair()?;
        let masked = SignalMask::block_all()?;
        let pid = clone(role.namespaces)?;
        if pid == 0 {
            role.play(word.as_raw_fd(), other.as_fd());
        }
        drop(masked);
        Ok(Self {
            pid,
            word,
            has_ended: false,
        })
    }

    /// Its pid, as this process sees it.
    pub(super) fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// Has it send, and waits until it has ended.
    pub(super) fn send(mut self) -> Result<(), String> {
        rustix::io::write(&self.word, &[1]).map_err(|error| error.to_string())?;
        let status = self.wait().map_err(|error| error.to_string())?;
        match (libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
            (true, 0) => Ok(()),
            (true, NO_IDS) => Err("its ids could not be changed".into()),
            (true, _) => Err("it could not send".into()),
            (false, _) => Err("it was killed: does a seccomp filter forbid what it did?".into()),
        }
    }

    /// Waits until it has ended, and not without end: it is stopped by force if
    /// it does nothing, as where the kernel's threads do not get to run.
    fn wait(&mut self) -> io::Result<libc::c_int> {
        self.has_ended = true;
        // Its end of the pair is closed when it ends.
        let mut ends = [PollFd::new(&self.word, PollFlags::empty())];
        if !matches!(poll(&mut ends, Some(&PATIENCE)), Ok(1)) {
            // SAFETY: no memory is passed, and nobody else waits for this child,
            // so its pid is no other's yet.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
        }
        let mut status = 0;
        loop {
            // SAFETY: the status is a local that lives until the call is over.
            let found = unsafe { libc::waitpid(self.pid, &raw mut status, libc::__WALL) };
            if found == self.pid {
                return Ok(status);
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.has_ended {
            // There is nobody to tell, in either case.
            let _result = self.word.shutdown(Shutdown::Write);
            let _status = self.wait();
        }
    }
}

impl Role<'_> {
    /// What the child does, in the child: system calls only.
    fn play(&self, parents: RawFd, word: BorrowedFd<'_>) -> ! {
        let code = self.act(parents, word);
        // SAFETY: ends this process, and runs nothing of it before.
        unsafe { libc::_exit(code) }
    }

    fn act(&self, parents: RawFd, word: BorrowedFd<'_>) -> libc::c_int {
        // While it has both ends it would not notice that the parent has gone.
        // SAFETY: nothing in this process uses the descriptor any more.
        unsafe { libc::close(parents) };
        // SAFETY: the name ends with a NUL, and lives until the call is over.
        unsafe { libc::prctl(libc::PR_SET_NAME, self.comm.as_ptr()) };
        let mut byte = [0];
        if !matches!(rustix::io::read(word, &mut byte), Ok(1)) {
            return 0;
        }
        if self.ids.is_some_and(|ids| !ids.take_on()) {
            return NO_IDS;
        }
        if let Some(uring) = self.uring {
            return uring.send(self.socket, self.frame).map_or(NOT_SENT, |()| 0);
        }
        let flags = rustix::net::SendFlags::NOSIGNAL | rustix::net::SendFlags::DONTWAIT;
        match rustix::net::send(self.socket, self.frame, flags) {
            Ok(FRAME_LEN) => 0,
            _ => NOT_SENT,
        }
    }
}

impl Ids {
    /// Groups first: who is not root any more may not change them.
    fn take_on(self) -> bool {
        let Self {
            users: [user, effective_user, saved_user],
            groups: [group, effective_group, saved_group],
        } = self;
        // SAFETY: no memory is passed. The system call itself, for the library's
        // function would have all threads change their ids.
        let groups =
            unsafe { libc::syscall(libc::SYS_setresgid, group, effective_group, saved_group) };
        // SAFETY: likewise.
        let users = unsafe { libc::syscall(libc::SYS_setresuid, user, effective_user, saved_user) };
        groups == 0 && users == 0
    }
}

/// A copy of this process, which sends no signal when it ends: 0 in the copy.
/// It goes on where this returns, with a copy of the stack.
fn clone(namespaces: libc::c_int) -> io::Result<libc::pid_t> {
    let zero: libc::c_long = 0;
    // SAFETY: without `CLONE_VM` the copy shares no memory with this process.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone,
            libc::c_long::from(namespaces),
            zero,
            zero,
            zero,
            zero,
        )
    };
    match libc::pid_t::try_from(pid) {
        Ok(pid) if pid >= 0 => Ok(pid),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Blocks all signals of this thread until it is dropped.
struct SignalMask(libc::sigset_t);

impl SignalMask {
    fn block_all() -> io::Result<Self> {
        let mut all = MaybeUninit::uninit();
        // SAFETY: it fills the set in.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        let mut before = MaybeUninit::uninit();
        // SAFETY: the first set was filled in, and the call fills in the second.
        let error =
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        // SAFETY: the call succeeded, and so has filled it in.
        Ok(Self(unsafe { before.assume_init() }))
    }
}

impl Drop for SignalMask {
    fn drop(&mut self) {
        // SAFETY: the set was filled in by the call that blocked.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut())
        };
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    const FRAME: [u8; FRAME_LEN] = [7; FRAME_LEN];
    const NAME: [u8; COMM_LEN] = *b"a child of ours\0";

    fn sockets() -> (UnixDatagram, UnixDatagram) {
        let (sender, receiver) = UnixDatagram::pair().unwrap();
        receiver.set_nonblocking(true).unwrap();
        (sender, receiver)
    }

    fn role(socket: &UnixDatagram) -> Role<'_> {
        Role {
            namespaces: 0,
            ids: None,
            uring: None,
            comm: &NAME,
            socket: socket.as_fd(),
            frame: &FRAME,
        }
    }

    fn is_there(pid: u32) -> bool {
        fs::exists(format!("/proc/{pid}")).unwrap()
    }

    #[test]
    fn it_sends_when_told_and_leaves_nothing() {
        let (sender, receiver) = sockets();
        let child = Child::start(&role(&sender)).unwrap();
        let pid = child.pid();
        let mut buffer = [0; 64];
        assert!(receiver.recv(&mut buffer).is_err(), "it had no word");
        // Whoever waits for any child does not find it.
        // SAFETY: no memory is passed.
        let found = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
        assert_ne!(found.unsigned_abs(), pid);
        assert_eq!(child.send(), Ok(()));
        assert_eq!(receiver.recv(&mut buffer).unwrap(), FRAME_LEN);
        assert_eq!(buffer[..FRAME_LEN], FRAME);
        assert!(!is_there(pid));
    }

    #[test]
    fn without_a_word_it_ends_and_has_sent_nothing() {
        let (sender, receiver) = sockets();
        let child = Child::start(&role(&sender)).unwrap();
        let pid = child.pid();
        drop(child);
        assert!(receiver.recv(&mut [0; 64]).is_err());
        assert!(!is_there(pid));
    }

    /// A child that does nothing, as one in a frozen cgroup, holds nobody up.
    #[test]
    fn patience_has_an_end() {
        let (sender, _receiver) = sockets();
        let child = Child::start(&role(&sender)).unwrap();
        let pid = child.pid();
        // SAFETY: it is our own child, and has not been waited for.
        unsafe { libc::kill(pid.cast_signed(), libc::SIGSTOP) };
        let error = child.send().unwrap_err();
        assert!(error.contains("killed"), "{error}");
        assert!(!is_there(pid));
    }

    /// Signals are let in again, and a child's ids are its own.
    #[test]
    fn this_process_stays_as_it_was() {
        let (sender, _receiver) = sockets();
        let mask = || fs::read_to_string("/proc/thread-self/status").unwrap();
        let lines = |text: String| -> Vec<String> {
            let kept = ["SigBlk", "Uid", "Gid", "Name", "CapEff"];
            text.lines()
                .filter(|line| kept.iter().any(|name| line.starts_with(name)))
                .map(Into::into)
                .collect()
        };
        let before = lines(mask());
        let ids = Ids {
            users: [5, 6, 7],
            groups: [8, 9, 10],
        };
        let child = Child::start(&Role {
            ids: Some(ids),
            ..role(&sender)
        });
        // Not as root it cannot.
        let _sent = child.unwrap().send();
        assert_eq!(lines(mask()), before);
    }
}
