//! Signals that stop the observer, one that has it read its configuration again,
//! and others that must do nothing.

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

/// SIGHUP, caught from the moment that this is made; and one that came after
/// [`prepare`].
pub(crate) struct Hangup(Signal);

impl Hangup {
    /// # Errors
    /// Where the handler cannot be installed.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let caught = signal(SignalKind::hangup()).context("cannot catch SIGHUP")?;
        mask(libc::SIG_UNBLOCK, &[libc::SIGHUP]).context("cannot unblock SIGHUP")?;
        Ok(Self(caught))
    }

    /// Waits for one more; false if none can come. Several that come at the same
    /// time are one.
    pub(crate) async fn came(&mut self) -> bool {
        let Self(signal) = self;
        signal.recv().await.is_some()
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

/// Signals that end a process which does not expect them, sent by mistake or by
/// somebody who means another: none of them is for the observer. That a file is
/// as long as it may be (`RLIMIT_FSIZE`, SIGXFSZ) is an error of the write.
const IGNORED: [libc::c_int; 9] = [
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGSTKFLT,
    libc::SIGXFSZ,
];

/// Sets right what a parent may have left: SIGTERM and SIGINT arrive even if they
/// were blocked; and ignores what is not for the observer. SIGHUP waits until
/// there is a [`Hangup`]: it is not the end of an observer that does not catch it
/// yet, nor lost. To be called before there are other threads, which inherit it.
///
/// # Errors
/// Where the kernel refuses.
pub(crate) fn prepare() -> io::Result<()> {
    mask(libc::SIG_BLOCK, &[libc::SIGHUP])?;
    mask(libc::SIG_UNBLOCK, &[libc::SIGTERM, libc::SIGINT])?;
    // Those of real time end a process too.
    let others = libc::SIGRTMIN()..=libc::SIGRTMAX();
    IGNORED.into_iter().chain(others).try_for_each(ignore)
}

/// Blocks signals in this thread, or no longer does.
fn mask(how: libc::c_int, which: &[libc::c_int]) -> io::Result<()> {
    let mut signals = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: it writes the set, which is ours, and reads nothing.
    let status = unsafe { libc::sigemptyset(signals.as_mut_ptr()) };
    check(status)?;
    for &signal in which {
        // SAFETY: the set was written above.
        let status = unsafe { libc::sigaddset(signals.as_mut_ptr(), signal) };
        check(status)?;
    }
    // SAFETY: it reads the set, and stores the old mask nowhere.
    match unsafe { libc::pthread_sigmask(how, signals.as_ptr(), ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn ignore(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: to ignore a signal runs no code of ours.
    let before = unsafe { libc::signal(signal, libc::SIG_IGN) };
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
