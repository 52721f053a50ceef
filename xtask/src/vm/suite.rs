//! Which tests a guest runs, and how.

use std::ffi::OsStr;
use std::iter::once;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::build::Built;

/// Files of tests that are left out, each for its reason.
const LEFT_OUT_FILES: [(&str, &str); 11] = [
    (
        "clients",
        "what a public client sends is the same on each kernel, and Python is not in the guest",
    ),
    (
        "config",
        "how settings are read, and read again, is the same on each kernel",
    ),
    (
        "evidence",
        "nobody is waited for on any kernel, and FUSE, which the forgers need, is not in the guest's",
    ),
    (
        "metrics",
        "what an observer reports of itself is the same on each kernel, and Prometheus is not in the guest",
    ),
    (
        "library",
        "what cargo builds is the same on each kernel, and cargo is not in the guest",
    ),
    (
        "reception",
        "what a seccomp filter refuses is the same on each kernel",
    ),
    ("stalls", TIMES),
    ("starved", TIMES),
    (
        "socket",
        "what becomes of the socket's file is the same on each kernel",
    ),
    (
        "stdout",
        "what waits for a reader is the same on each kernel",
    ),
    (
        "top",
        "what an observer reports of itself is the same on each kernel, and tmux is not in the guest",
    ),
];

const TIMES: &str = "times mean nothing under emulation";
const TABLE: &str = "the table of agents is the same on each kernel";
const DISKS: &str = "what becomes of a file on a full or frozen disk is the same on each kernel";
const FILES: &str = "what others do to the trail's file is the same on each kernel";
const FRAMES: &str = "frames and events are the same on each kernel";

/// Tests that are left out, by name.
const LEFT_OUT_TESTS: [(&str, &str); 15] = [
    ("a_frozen_disk_delays_no_beat", DISKS),
    ("a_full_disk_is_survived", DISKS),
    ("a_follower_says_what_others_do_to_the_file", FILES),
    ("a_stall_by_udp_is_reported_once_and_on_time", TIMES),
    ("a_stopped_observer_blames_no_agent_by_udp", TIMES),
    ("a_thousand_agents_each_beat_once_and_end", TABLE),
    (
        "a_trail_that_logrotate_rotates_stays_whole_and_goes_on",
        FILES,
    ),
    ("a_trail_that_may_not_grow_is_survived", DISKS),
    (
        "a_trail_that_was_emptied_is_repaired_on_demand_and_never_clean",
        FILES,
    ),
    ("dead_agents_are_evicted", TABLE),
    ("every_wire_vector_gets_its_verdict", FRAMES),
    ("every_valid_vector_in_the_senders_name_is_a_beat", FRAMES),
    ("every_event_has_a_name_and_fields_of_the_contract", FRAMES),
    ("a_full_table_refuses_newcomers_until_agents_stall", TABLE),
    ("sleepers_that_fill_the_table_shut_nobody_out", TABLE),
];

/// A list of steps in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suite {
    /// All but what is about preemption only.
    All,
    /// What `lockdown=integrity` could change.
    Integrity,
    /// What depends on when a kernel preempts.
    Preemption,
}

/// The files of tests that a guest with `lockdown=integrity` runs, each for its
/// reason. Of what that state forbids (`enum lockdown_reason`,
/// `include/linux/security.h`, up to `LOCKDOWN_INTEGRITY_MAX`; read as of before
/// and after 6.2), only `LOCKDOWN_BPF_WRITE_USER` is about BPF, and no program
/// here writes to a process's memory. What is left to test is that the state is
/// seen, and that programs are loaded and attest as they do without it. Only
/// `confidentiality` closes the kernel's memory to BPF; its guests run all
/// files.
const INTEGRITY: [(&str, &str); 9] = [
    ("attribution", "whom tier btf names on the Unix socket"),
    ("btf", "programs are loaded with the kernel's own types"),
    (
        "descriptors",
        "seen by bpf_probe_read_kernel before Linux 6.2, which this state allows",
    ),
    ("doctor", "it reports the state, and what the state allows"),
    ("io_uring", "submitters are seen by the same function"),
    ("layout", "the kernel's types are read"),
    (
        "tiers",
        "its results are this state's row in docs/kernels.md",
    ),
    ("udp", "whom tier btf names by UDP"),
    (
        "verifier",
        "every program is loaded with every set of flags",
    ),
];

/// Why such a guest leaves the other files out.
const NOT_BY_INTEGRITY: &str = "lockdown=integrity forbids nothing that these depend on; \
                                the guests with none and confidentiality run them";

/// The files of tests about preemption.
const PREEMPTION: [&str; 4] = ["crowd", "flood", "preempted", "ring"];

/// Those that are in no other suite: the same kernels run them in the guests
/// that preempt.
const PREEMPTION_ONLY: [&str; 2] = ["crowd", "preempted"];

impl Suite {
    pub(super) const ALL: [Self; 3] = [Self::All, Self::Integrity, Self::Preemption];

    /// The list's path in the guest, which is the argument of its first
    /// process.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::All => "/suite",
            Self::Integrity => "/suite-integrity",
            Self::Preemption => "/suite-preemption",
        }
    }

    /// Whether a step belongs to it.
    pub(super) fn has(self, step: &Step) -> bool {
        self.has_file(&step.name)
    }

    fn has_file(self, name: &str) -> bool {
        match self {
            Self::All => !PREEMPTION_ONLY.contains(&name),
            Self::Integrity => INTEGRITY.iter().any(|(file, _)| *file == name),
            Self::Preemption => PREEMPTION.contains(&name),
        }
    }
}

/// One test program, run to its end.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) name: String,
    program: PathBuf,
    observer: PathBuf,
    /// Part of the names of the tests to be run.
    filter: Option<&'static str>,
}

impl Step {
    /// A line of the list that the guest reads (`tests/src/bin/guest.rs`).
    pub(super) fn line(&self) -> String {
        let skipped = LEFT_OUT_TESTS
            .iter()
            .flat_map(|(name, _)| ["--skip".to_owned(), (*name).to_owned()]);
        let words: Vec<String> = once(self.name.clone())
            .chain([
                format!("OBSERVER_BIN={}", self.observer.display()),
                "OBSERVER_REQUIRE_KERNEL=1".into(),
                "OBSERVER_TEST_EMULATED=1".into(),
                "OBSERVER_FACTS=/dev/ttyS1".into(),
                "PATH=/usr/bin".into(),
                self.program.display().to_string(),
                "--test-threads=1".into(),
            ])
            .chain(skipped)
            .chain(self.filter.map(str::to_owned))
            .collect();
        format!("{}\n", words.join("\t"))
    }

    /// The same here, with its facts in a file.
    pub(super) fn on_this_host(&self, facts: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--quiet")
            .env("OBSERVER_BIN", &self.observer)
            .env("OBSERVER_REQUIRE_KERNEL", "1")
            .env("OBSERVER_FACTS", facts);
        command
    }
}

/// The steps, in the order of their names: each file of end-to-end tests, and
/// the unit tests that read the kernel's types.
pub(super) fn steps(built: &Built, observer: &Path) -> Vec<Step> {
    let step = |name: String, program: &Path, filter| Step {
        name,
        program: program.to_owned(),
        observer: observer.to_owned(),
        filter,
    };
    let mut steps: Vec<Step> = built
        .tests
        .iter()
        .map(|program| step(name(program), program, None))
        .filter(|step| LEFT_OUT_FILES.iter().all(|(file, _)| *file != step.name))
        .collect();
    steps.push(step("layout".into(), &built.unit_tests, Some(LAYOUT_TESTS)));
    steps.sort_by(|a, b| a.name.cmp(&b.name));
    steps
}

/// The library's unit tests of reading the running kernel's types.
const LAYOUT_TESTS: &str = "ebpf::btf";

/// Name of a file of tests, of whose program cargo's hash is a part.
fn name(test: &Path) -> String {
    let stem = test.file_name().and_then(OsStr::to_str).unwrap_or_default();
    stem.rsplit_once('-')
        .map_or(stem, |(name, _)| name)
        .to_owned()
}

/// What no guest runs, and why; last what those with `lockdown=integrity` do
/// not.
pub(super) fn left_out(steps: &[Step]) -> Vec<(String, &'static str)> {
    let everywhere = LEFT_OUT_FILES.into_iter().chain(LEFT_OUT_TESTS);
    let names: Vec<&str> = steps
        .iter()
        .filter(|step| Suite::All.has(step) && !Suite::Integrity.has(step))
        .map(|step| step.name.as_str())
        .collect();
    let integrity = format!("under lockdown=integrity {}", names.join(", "));
    everywhere
        .map(|(name, why)| (name.to_owned(), why))
        .chain([(integrity, NOT_BY_INTEGRITY)])
        .collect()
}

#[cfg(test)]
mod tests;
