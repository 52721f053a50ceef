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
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;

use observer_common::frame::FRAME_LEN;
use observer_common::record::COMM_LEN;

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
    pub(super) comm: &'a [u8; COMM_LEN],
    pub(super) socket: BorrowedFd<'a>,
    pub(super) frame: &'a [u8; FRAME_LEN],
}

/// A child that waits for the word to go on.
#[derive(Debug)]
pub(super) struct Child {
    pid: libc::pid_t,
    /// `None`: it was closed, and the child ends.
    word: Option<UnixStream>,
    has_ended: bool,
}

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
            word: Some(word),
            has_ended: false,
        })
    }

    /// Its pid, as this process sees it.
    pub(super) fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// Has it send, and waits until it has ended.
    pub(super) fn send(mut self) -> Result<(), String> {
        if let Some(word) = self.word.take() {
            rustix::io::write(&word, &[1]).map_err(|error| error.to_string())?;
        }
        let status = self.wait().map_err(|error| error.to_string())?;
        match (libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
            (true, 0) => Ok(()),
            (true, NO_IDS) => Err("its ids could not be changed".into()),
            (true, _) => Err("it could not send".into()),
            (false, _) => Err("a child was killed: does a seccomp filter forbid setresuid?".into()),
        }
    }

    fn wait(&mut self) -> io::Result<libc::c_int> {
        self.has_ended = true;
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
        self.word = None;
        if !self.has_ended {
            // There is nobody to tell.
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
