//! What the eBPF programs cost.

use std::fmt;

use observer_events::snapshot::{ProgramRuns, RouteSnapshot};

use super::families::Families;

/// The kernel counts only while `kernel.bpf_stats_enabled` is set; a program
/// that it has not counted has no series.
pub(super) fn encode(families: &mut Families<'_>, routes: &[RouteSnapshot]) -> fmt::Result {
    let counted = || {
        let programs = routes.iter().filter_map(|route| route.program.as_ref());
        programs.filter(|program| program.runs > 0)
    };
    if counted().next().is_none() {
        return Ok(());
    }
    let label = |program: &'_ ProgramRuns| [("program", program.name.clone())];
    families.counters(
        "ebpf_runs",
        "Runs of the eBPF programs while kernel.bpf_stats_enabled was set",
        counted().map(|program| (label(program), program.runs)),
    )?;
    families.counters(
        "ebpf_run_seconds",
        "Time that these runs took",
        counted().map(|program| (label(program), program.run_time.as_secs_f64())),
    )
}
