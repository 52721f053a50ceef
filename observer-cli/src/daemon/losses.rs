//! Logs what the outputs lost.

use std::time::Duration;

use super::log_limit::LogLimit;

/// How often a loss that goes on is logged.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Losses of each output, as far as they have been logged.
#[derive(Debug)]
pub(super) struct Losses {
    stdout: Loss,
    log: Loss,
    audit: Loss,
}

/// What each output has lost so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost {
    pub(super) stdout: u64,
    pub(super) log: u64,
    /// 0 without an audit trail.
    pub(super) audit: u64,
}

/// What one output lost, and how much of it has been logged.
#[derive(Debug)]
struct Loss {
    logged: u64,
    limit: LogLimit,
    what: &'static str,
}

impl Losses {
    pub(super) const fn new() -> Self {
        Self {
            stdout: Loss::new("events lost: stdout is not being read"),
            log: Loss::new("lines of this log lost: stderr is not being read"),
            audit: Loss::new("incidents lost: the audit trail is not written fast enough"),
        }
    }

    /// Logs what was lost since, at a bounded rate; returns whether all of it
    /// is logged.
    pub(super) fn log(&mut self, lost: Lost) -> bool {
        let Self { stdout, log, audit } = self;
        let logged = [
            stdout.log(lost.stdout),
            log.log(lost.log),
            audit.log(lost.audit),
        ];
        logged == [true; 3]
    }
}

impl Loss {
    const fn new(what: &'static str) -> Self {
        Self {
            logged: 0,
            limit: LogLimit::new(LOG_EVERY),
            what,
        }
    }

    fn log(&mut self, lost: u64) -> bool {
        let new = lost.saturating_sub(self.logged);
        if new > 0 && self.limit.take() {
            tracing::warn!("{new} {} ({lost} since the start)", self.what);
            self.logged = lost;
        }
        self.logged == lost
    }
}
