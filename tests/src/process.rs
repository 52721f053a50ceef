//! What the helper binaries share: their arguments, children, users, and the
//! end of their stdin.

use std::env;
use std::fmt::Debug;
use std::io::{self, BufRead as _};
use std::process;
use std::str::FromStr;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Pid, Uid, fork, setgid, setgroups, setuid};

/// The arguments, which have to be so many.
///
/// # Panics
/// With `usage` if they are not.
#[must_use]
pub fn arguments<const COUNT: usize>(usage: &str) -> [String; COUNT] {
    let arguments: Vec<String> = env::args().skip(1).collect();
    arguments
        .try_into()
        .unwrap_or_else(|arguments| panic!("{usage}, not {arguments:?}"))
}

/// A number, as an argument or a line has it.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn number<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse()
        .unwrap_or_else(|error| panic!("{text:?}: {error:?}"))
}

/// Runs a job in a child, which ends with it. The calling process must have one
/// thread.
///
/// # Panics
/// If there can be no child.
pub fn start_child(job: impl FnOnce()) -> Pid {
    // SAFETY: the process has one thread, so the child may do what it likes.
    match unsafe { fork() }.expect("forks") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            job();
            process::exit(0);
        }
    }
}

/// Waits for the end of a child, which must do well.
///
/// # Panics
/// If it does not.
pub fn wait_for_child(child: Pid) {
    let status = waitpid(child, None).expect("it is our child");
    assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
}

/// Runs a job in a child, and waits for its end.
pub fn in_child(job: impl FnOnce()) {
    wait_for_child(start_child(job));
}

/// Makes the process one of another user, in that user's group only.
///
/// # Panics
/// If it may not.
pub fn become_user(uid: u32) {
    setgroups(&[]).expect("root may");
    setgid(Gid::from_raw(uid)).expect("root may");
    setuid(Uid::from_raw(uid)).expect("root may");
}

/// Stays until stdin is closed.
pub fn wait_for_end() {
    for line in io::stdin().lock().lines() {
        drop(line);
    }
}
