//! Agents whose attempts to send are all that shows that they are alive.

use std::collections::HashMap;

/// Those agents, by slot. The slot says whether it is here, so that a beat of
/// any other looks nothing up.
#[derive(Debug, Default)]
pub(super) struct Unheard {
    agents: HashMap<u32, Since>,
}

#[derive(Clone, Copy, Debug)]
struct Since {
    /// When the first attempt since the last beat was found, observer time. The
    /// absences of the observer's since then count: they may be why.
    first_ns: u64,
    /// This was reported.
    is_reported: bool,
}

impl Unheard {
    /// Notes an attempt; whether an operator is to hear of the agent now.
    pub(super) fn note(&mut self, index: u32, now_ns: u64, threshold_ns: u64) -> bool {
        let since = self.agents.entry(index).or_insert(Since {
            first_ns: now_ns,
            is_reported: false,
        });
        let is_long = now_ns.saturating_sub(since.first_ns) >= threshold_ns;
        is_long && !std::mem::replace(&mut since.is_reported, true)
    }

    /// The agent was heard, or is taken for dead.
    pub(super) fn end(&mut self, index: u32, is_unheard: &mut bool) {
        if std::mem::take(is_unheard) {
            self.agents.remove(&index);
        }
    }
}
