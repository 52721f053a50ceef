//! How soon the observer gets a CPU when something comes.
//!
//! A queue of eleven datagrams is full within milliseconds, and a flood keeps
//! the CPUs busy as well: an observer that waits for a CPU as long as everyone
//! else loses beats that it would have had the time to read.

use std::io;
use std::ptr;

use anyhow::anyhow;
use clap::ValueEnum;

/// Nice value of [`Priority::High`].
const NICE: i32 = -10;

/// How long a thread asks to run at a time, nanoseconds: the shortest there is
/// (`__setparam_fair`, `kernel/sched/fair.c`, 6.12). A thread that asks for a
/// short time gets it soon (EEVDF).
const SLICE_NS: u64 = 100_000;

/// The lowest of the real-time priorities.
const REALTIME_PRIORITY: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Priority {
    /// Leave the priority as it is
    Normal,
    /// Before most others, as far as that is allowed: a nice value of -10
    /// (needs `CAP_SYS_NICE`) and short turns (need Linux 6.12)
    High,
    /// Before everything that is not real-time (`SCHED_RR`, priority 1); the
    /// observer does not start where that is not allowed. A flood then takes
    /// one whole CPU
    Realtime,
}

/// Sets it for this thread, and for none that it starts.
///
/// # Errors
/// Where [`Priority::Realtime`] is not allowed.
pub(crate) fn set(priority: Priority) -> anyhow::Result<()> {
    match priority {
        Priority::Normal => Ok(()),
        Priority::High => {
            if let Err(error) = apply(&fair(NICE)).or_else(|_| apply(&fair(0))) {
                tracing::info!("running at normal priority: {error}");
            }
            Ok(())
        }
        Priority::Realtime => apply(&REALTIME).map_err(|error| {
            anyhow!("--priority realtime is not allowed here: {error}; it needs CAP_SYS_NICE")
        }),
    }
}

/// Short turns, with a nice value.
fn fair(nice: i32) -> libc::sched_attr {
    libc::sched_attr {
        sched_nice: nice,
        sched_runtime: SLICE_NS,
        ..ORDINARY
    }
}

const REALTIME: libc::sched_attr = libc::sched_attr {
    sched_policy: libc::SCHED_RR.cast_unsigned(),
    sched_priority: REALTIME_PRIORITY,
    ..ORDINARY
};

/// Like everyone's, save that threads and children do not inherit it.
const ORDINARY: libc::sched_attr = libc::sched_attr {
    size: SIZE,
    sched_policy: libc::SCHED_OTHER.cast_unsigned(),
    sched_flags: 1,
    sched_nice: 0,
    sched_priority: 0,
    sched_runtime: 0,
    sched_deadline: 0,
    sched_period: 0,
};

/// `SCHED_ATTR_SIZE_VER0` (`include/uapi/linux/sched/types.h`).
const SIZE: u32 = 48;

const _: () = {
    assert!(size_of::<libc::sched_attr>() == SIZE as usize);
    assert!(libc::SCHED_FLAG_RESET_ON_FORK == 1);
};

fn apply(attributes: &libc::sched_attr) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes as `size` says, which is how long
    // the structure is, and keeps no pointer to it. Thread 0 is the caller;
    // there are no flags.
    let status = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, ptr::from_ref(attributes), 0) };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_may_have_short_turns() {
        apply(&fair(0)).unwrap();
        set(Priority::High).unwrap();
        set(Priority::Normal).unwrap();
    }
}
