//! Each tier, and what privilege it takes: what a weaker one cannot see is
//! shown as well.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    process::{self, Command},
};

use observer_tests::{
    agent::Agent,
    need_kernel,
    observer::{Observer, Setup, is},
    observer_binary, procfs,
};

const LONG: u64 = 60_000;

fn sender(observer: &Observer, scenario: &str, numbers: &[u32]) -> Agent {
    let socket = observer.socket().display().to_string();
    let numbers = numbers.iter().map(u32::to_string);
    let arguments = [scenario.to_owned(), socket].into_iter().chain(numbers);
    Agent::start(env!("CARGO_BIN_EXE_sender"), arguments)
}

fn with(flags: &[&str]) -> Observer {
    let setup = Setup::new(LONG);
    flags
        .iter()
        .fold(setup, |setup, flag| setup.arg(flag))
        .start()
}

/// An honest beat, and who the observer says sent it.
fn assert_attests(observer: &Observer, via: &str) {
    let mut agent = sender(observer, "each-line", &[]);
    assert_eq!(agent.number(), u64::from(agent.pid()));
    agent.tell("");
    let beat = observer.expect("a beat", |event| is(event, "beat"));
    assert_eq!(beat["pid"], agent.pid());
    assert_eq!(beat["sender"]["via"], via);
    agent.finish_well();
}

fn assert_refuses(observer: &Observer, scenario: &str, numbers: &[u32], cause: &str) {
    let mut forger = sender(observer, scenario, numbers);
    let failure = observer.expect(scenario, |event| {
        is(event, "auth_failure") && event["cause"] == cause
    });
    assert_eq!(failure["claimed_pid"], *numbers.last().expect("a claim"));
    forger.finish_well();
}

#[test]
fn helper_functions_alone_catch_the_same_lies() {
    need_kernel!();
    let observer = with(&["--tier", "helper"]);
    assert_attests(&observer, "helper");
    let victim = process::id();
    assert_refuses(&observer, "claim", &[victim], "pid_mismatch");
    assert_refuses(&observer, "forge", &[victim, victim], "forged_credentials");
    let mut foreign = sender(&observer, "foreign-child", &[0]);
    let conflict = observer.expect("a conflict", |event| is(event, "namespace_conflict"));
    // This tier knows that it is another namespace, not which.
    assert!(conflict["observed_ns_inode"].is_null());
    assert_eq!(
        conflict["observer_ns_inode"],
        procfs::pid_namespace(process::id())
    );
    assert!(foreign.finish().success());
    assert_eq!(observer.stop().counter("beats"), 1);
}

/// Without eBPF a forged `SCM_CREDENTIALS` passes: the reason for the rest.
#[test]
fn credentials_alone_are_believed() {
    need_kernel!();
    for flags in [
        &["--attest", "off"][..],
        &["--attest", "prefer", "--tier", "scm"],
    ] {
        let observer = with(flags);
        assert_attests(&observer, "scm");
        let victim = process::id();
        assert_refuses(&observer, "claim", &[victim], "pid_mismatch");
        let mut forger = sender(&observer, "forge", &[victim, victim]);
        forger.finish_well();
        let believed = observer.expect("a forged beat", |event| {
            is(event, "beat") && event["pid"] == victim
        });
        assert_eq!(believed["sender"]["via"], "scm");
        assert!(believed["sender"]["start_ns"].is_null());
    }
}

/// `setpriv` to nobody with some capabilities.
fn nobody(capabilities: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    if capabilities.is_empty() {
        command.args(["--inh-caps=-all", "--bounding-set=-all"]);
    } else {
        command.arg(format!("--inh-caps={capabilities}"));
        command.arg(format!("--ambient-caps={capabilities}"));
    }
    command
}

/// The observer where `nobody` can execute it.
struct Copy(tempfile::TempDir);

impl Copy {
    fn new() -> Self {
        let scratch = tempfile::tempdir().expect("a directory");
        let copy = scratch.path().join("observer");
        fs::copy(observer_binary(), &copy).expect("copies");
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("sets");
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).expect("sets");
        Self(scratch)
    }

    fn command(&self, capabilities: &str) -> Command {
        let mut command = nobody(capabilities);
        command.arg("--").arg(self.0.path().join("observer"));
        command
    }

    fn socket(&self) -> std::path::PathBuf {
        let directory = self.0.path().join("d");
        drop(fs::create_dir(&directory));
        chown(&directory, Some(65534), Some(65534)).expect("root may");
        directory.join("s")
    }
}

#[test]
fn nobody_with_two_capabilities_attests() {
    need_kernel!();
    let copy = Copy::new();
    for (capabilities, via) in [("+bpf,+perfmon", "btf"), ("+bpf", "helper")] {
        let setup = Setup::in_command(copy.command(capabilities), LONG);
        chown(setup.directory(), Some(65534), Some(65534)).expect("root may");
        assert_attests(&setup.start(), via);
    }
}

#[test]
fn nobody_without_capabilities_is_told_what_is_missing() {
    need_kernel!();
    let copy = Copy::new();
    let output = copy
        .command("")
        .args(["run", "--threshold-ms", "1000", "--socket"])
        .arg(copy.socket())
        .output()
        .expect("it runs");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{message}");
    assert!(message.contains("CAP_BPF"), "{message}");

    let setup = Setup::in_command(copy.command(""), LONG)
        .arg("--attest")
        .arg("prefer");
    chown(setup.directory(), Some(65534), Some(65534)).expect("root may");
    assert_attests(&setup.start(), "scm");
}
