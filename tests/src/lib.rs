//! What the end-to-end tests share: a running observer, agents as processes
//! of their own, and the check whether this kernel can be tested.
//!
//! Nothing here stands in for the real thing: the observer is the release
//! binary, senders are processes, the kernel is the one that runs.

pub mod agent;
pub mod attacker;
mod bpf;
pub mod btf;
pub mod busy;
pub mod cgroup;
pub mod fact;
pub mod kernel;
mod lines;
pub mod namespace;
pub mod network;
pub mod observer;
pub mod packet;
pub mod privilege;
pub mod process;
pub mod procfs;
pub mod prometheus;
pub mod quota;
pub mod ring_head;
pub mod senders;
pub mod socket;
pub mod trail;
pub mod udp;

use std::env;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Whether the kernel lets this test run; if not, it prints why. Under
/// `OBSERVER_REQUIRE_KERNEL=1`, as in CI, each test runs, and fails where the
/// kernel does not let it.
#[must_use]
pub fn kernel_is_ready(test: &str) -> bool {
    static READY: OnceLock<Result<(), String>> = OnceLock::new();
    if env::var_os("OBSERVER_REQUIRE_KERNEL").is_some() {
        return true;
    }
    let Err(reason) = READY.get_or_init(probe) else {
        return true;
    };
    // Not `eprintln!`: libtest keeps what a passing test prints to itself.
    let notice = format!("NOT RUN: {test}: {reason}\n");
    drop(io::stderr().write_all(notice.as_bytes()));
    false
}

/// Returns from the test where the kernel does not let it run, and prints that.
#[macro_export]
macro_rules! need_kernel {
    () => {
        let _one_at_a_time = $crate::one_at_a_time();
        if !$crate::kernel_is_ready(concat!(module_path!(), ":", line!())) {
            return;
        }
    };
}

/// The tests of one file share two cores and some time limits: they take
/// turns.
pub fn one_at_a_time() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn probe() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("needs root".into());
    }
    let doctor = Command::new(observer_binary())
        .arg("doctor")
        .output()
        .map_err(|error| format!("{}: {error}", observer_binary().display()))?;
    match doctor.status.code() {
        Some(0) => Ok(()),
        code => Err(format!(
            "`observer doctor` exits with {code:?}:\n{}",
            String::from_utf8_lossy(&doctor.stdout)
        )),
    }
}

/// The observer under test: `OBSERVER_BIN`, else the workspace's release
/// build.
#[must_use]
pub fn observer_binary() -> PathBuf {
    env::var_os("OBSERVER_BIN").map_or_else(
        || workspace().join("target/release/observer"),
        PathBuf::from,
    )
}

/// Runs a command, which must do well.
pub fn must(command: &mut Command) {
    let output = command.output().expect("it can be started");
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// Whether the machine is emulated: too slow for floods, and times mean nothing.
#[must_use]
pub fn is_emulated() -> bool {
    env::var_os("OBSERVER_TEST_EMULATED").is_some()
}

/// The folder that holds this package.
#[must_use]
pub fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package is in a workspace")
        .to_owned()
}
