//! Signals that stop the observer, and one that must not.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use anyhow::Context as _;
use rustix::process::{WaitOptions, waitpid};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT, caught from the moment that this is made.
pub(crate) struct Shutdown {
    terminate: Signal,
    interrupt: Signal,
}

impl Shutdown {
    /// # Errors
    /// Where the handlers cannot be installed.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let catch = |kind| signal(kind).context("cannot catch signals");
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
        })
    }

    /// Waits for one of the two, and returns its name.
    pub(crate) async fn requested(&mut self) -> &'static str {
        let Self {
            terminate,
            interrupt,
        } = self;
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    }
}

/// Waits for processes that lost their parents, as the first process of a pid
/// namespace has to: they would stay as zombies. The observer has no children
/// of its own by then.
pub(crate) async fn reap_orphans() {
    let Ok(mut ended) = signal(SignalKind::child()) else {
        tracing::warn!("orphans stay as zombies: SIGCHLD cannot be caught");
        return;
    };
    loop {
        while let Ok(Some(_)) = waitpid(None, WaitOptions::NOHANG) {}
        if ended.recv().await.is_none() {
            return;
        }
    }
}

/// Sets right what a parent may have left: SIGTERM and SIGINT arrive even if
/// they were blocked, and a file that is as long as it may be (`RLIMIT_FSIZE`)
/// is an error of the write and not the end (SIGXFSZ). To be called before there
/// are other threads, which inherit it.
///
/// # Errors
/// Where the kernel refuses.
pub(crate) fn prepare() -> io::Result<()> {
    let mut signals = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: it writes the set, which is ours, and reads nothing.
    let status = unsafe { libc::sigemptyset(signals.as_mut_ptr()) };
    check(status)?;
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: the set was written above.
        let status = unsafe { libc::sigaddset(signals.as_mut_ptr(), signal) };
        check(status)?;
    }
    // SAFETY: it reads the set, and stores the old mask nowhere.
    let error =
        unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, signals.as_ptr(), ptr::null_mut()) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    // SAFETY: to ignore a signal runs no code of ours.
    let before = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    if before == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn check(status: libc::c_int) -> io::Result<()> {
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
