//! What sets a guest apart from the others of its kernel.

use clap::ValueEnum;

use super::suite::Suite;

/// `lockdown=` on the kernel's command line (`lockdown_param`,
/// `security/lockdown/lockdown.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Lockdown {
    None,
    Integrity,
    Confidentiality,
}

/// `preempt=` on the kernel's command line (`setup_preempt_mode`,
/// `kernel/sched/core.c`), which kernels with `CONFIG_PREEMPT_DYNAMIC` take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Preempt {
    Voluntary,
    Full,
}

/// What sets a guest apart from the others of its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// It runs the tests, as its kernel is, in this state of lockdown.
    Locked(Lockdown),
    /// It preempts so, and runs the tests that are about that.
    Preempting(Preempt),
}

impl Mode {
    /// Its parameter on the kernel's command line.
    pub(super) fn parameter(self) -> &'static str {
        match self {
            Self::Locked(Lockdown::None) => "lockdown=none",
            Self::Locked(Lockdown::Integrity) => "lockdown=integrity",
            Self::Locked(Lockdown::Confidentiality) => "lockdown=confidentiality",
            Self::Preempting(Preempt::Voluntary) => "preempt=voluntary",
            Self::Preempting(Preempt::Full) => "preempt=full",
        }
    }

    pub(super) fn name(self) -> &'static str {
        let parameter = self.parameter();
        parameter.strip_prefix("lockdown=").unwrap_or(parameter)
    }

    /// The list of tests that it runs.
    pub(super) fn suite(self) -> Suite {
        match self {
            Self::Locked(Lockdown::None | Lockdown::Confidentiality) => Suite::All,
            Self::Locked(Lockdown::Integrity) => Suite::Integrity,
            Self::Preempting(_) => Suite::Preemption,
        }
    }
}
