//! Metrics as a real Prometheus sees them; the alerts and the dashboard that
//! are made of them; whose requests the control socket takes.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use aya::sys::{Stats, enable_stats};
use observer_testing::{connect, frame};
use observer_tests::agent::Agent;
use observer_tests::observer::{Observer, Setup, is};
use observer_tests::privilege::{Binary, Privilege};
use observer_tests::prometheus::{Prometheus, get, metrics_port, program};
use observer_tests::{need_kernel, observer_binary, workspace};
use serde_json::Value;

fn deployed(path: &str) -> PathBuf {
    workspace().join("deploy").join(path)
}

/// An observer that serves metrics, and its port.
fn observer(flags: &[&str]) -> (Observer, u16) {
    let setup = flags
        .iter()
        .fold(Setup::new(500), |setup, flag| setup.arg(flag));
    let observer = setup.arg("--metrics").arg("0").start();
    let port = metrics_port(&observer);
    (observer, port)
}

fn send(observer: &Observer, claimed_pid: u32, nonces: std::ops::RangeInclusive<u64>) {
    let agent = connect(observer.socket()).expect("it is there");
    for nonce in nonces {
        let frame = frame(claimed_pid, nonce).encode();
        agent.send(&frame).expect("sends");
    }
}

/// Has `promtool` check a file, or its stdin; it must find nothing.
fn promtool(arguments: &[&str], input: &str) {
    let mut child = Command::new(program("promtool"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("promtool: {error}"));
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("writes");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {text}");
    // A lint is printed and is no failure.
    assert!(!arguments.contains(&"metrics") || text.is_empty(), "{text}");
}

#[test]
fn promtool_finds_nothing_wrong() {
    need_kernel!();
    let (observer, port) = observer(&["--udp", "127.0.0.1:0"]);
    send(&observer, std::process::id(), 1..=3);
    let (_, text) = get(port, "/metrics").expect("a response");
    promtool(&["check", "metrics"], &text);
    let file = |name: &str| deployed("prometheus").join(name).display().to_string();
    promtool(&["check", "rules", &file("rules.yml")], "");
    promtool(&["check", "config", &file("scrape.yml")], "");
    promtool(&["test", "rules", &file("rules.test.yml")], "");
}

/// Names that begin as metrics do, with their suffixes.
fn metrics_in(text: &str) -> Vec<String> {
    let is_name = |byte: char| byte.is_ascii_alphanumeric() || byte == '_';
    text.split(|byte| !is_name(byte))
        .filter(|word| word.starts_with("observer_"))
        .map(str::to_owned)
        .collect()
}

/// All expressions of the dashboard, as Grafana would send them.
fn dashboard() -> Vec<String> {
    let text = fs::read_to_string(deployed("grafana/observer.json")).expect("it is there");
    let board: Value = serde_json::from_str(&text).expect("JSON");
    let panels = board["panels"].as_array().expect("panels");
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array());
    targets
        .flatten()
        .map(|target| {
            let expression = target["expr"].as_str().expect("an expression");
            expression
                .replace("$instance", ".*")
                .replace("$__rate_interval", "1m")
                .replace("$__range", "5m")
        })
        .collect()
}

/// One observer, a real Prometheus, forgeries and a stall: what is scraped is
/// what was done, alerts fire, and no panel of the dashboard is empty.
#[test]
fn prometheus_sees_what_was_done() {
    need_kernel!();
    // Held until the end: the kernel counts the runs of eBPF programs.
    let _counting = enable_stats(Stats::RunTime).expect("root may");
    let trail = tempfile::tempdir().expect("a directory");
    let path = |name: &str| trail.path().join(name).display().to_string();
    let (key, verify_key, file) = (path("key"), path("verify-key"), path("trail"));
    let made = Command::new(observer_binary())
        .args([
            "audit",
            "keygen",
            "--audit-key",
            &key,
            "--verify-key",
            &verify_key,
        ])
        .output();
    assert!(made.expect("it runs").status.success());
    let (observer, port) = observer(&["--audit", &file, "--audit-key", &key]);
    let rules = deployed("prometheus/rules.yml");
    let prometheus = Prometheus::start(&format!("127.0.0.1:{port}"), &rules);
    let beats = r#"observer_events_total{event="beat"}"#;
    prometheus.wait("the first scrape", |it| it.value(beats) == Some(0.0));
    assert_eq!(prometheus.alerts(), Vec::<String>::new());
    send(&observer, std::process::id(), 1..=40);
    send(&observer, 1234, 1..=3);
    observer.expect("the stall", |event| is(event, "stall"));
    for (expression, expected) in [
        (beats, 40.0),
        (r#"observer_events_total{event="stall"}"#, 1.0),
        (r#"observer_auth_failures_total{cause="pid_mismatch"}"#, 3.0),
        (r#"observer_agents{state="silent"}"#, 1.0),
        (
            r#"observer_attestation_info{route="unix", tier="btf"}"#,
            1.0,
        ),
        ("observer_attestation_weaker", 0.0),
        ("observer_records_total", 43.0),
        ("observer_beat_age_seconds_count", 39.0),
        (r#"observer_stall_lateness_seconds_bucket{le="+Inf"}"#, 1.0),
        ("observer_audit_incidents_total", 3.0),
        ("sum(observer_lost_total)", 0.0),
    ] {
        prometheus.wait(expression, |it| it.value(expression) == Some(expected));
    }
    // One or two more: those of the program's self-test.
    let runs = prometheus.value(r#"observer_ebpf_runs_total{program="unix_btf"}"#);
    assert!(
        runs.is_some_and(|runs| (43.0..=45.0).contains(&runs)),
        "{runs:?}"
    );
    let seconds = prometheus.value("observer_ebpf_run_seconds_total");
    assert!(
        seconds.is_some_and(|seconds| (1e-6..0.1).contains(&seconds)),
        "{seconds:?}"
    );
    prometheus.wait("alerts", |it| {
        let mut alerts = it.alerts();
        alerts.sort();
        alerts == ["AgentSilent", "ForgedBeats"]
    });
    // Its panel is empty while no agent is live. This one is all the time: one
    // that beats once a second is silent for half of it, and a scrape may find
    // it so each time.
    let mut live = Command::new(observer_binary());
    live.args(["beat", "--interval-ms", "100", "--socket"])
        .arg(observer.socket());
    let _live = Agent::spawn(live);
    for expression in dashboard() {
        prometheus.wait(&expression, |it| !it.query(&expression).is_empty());
    }
    let (_, scraped) = get(port, "/metrics").expect("a response");
    let exposed = metrics_in(&scraped);
    let rules = fs::read_to_string(rules).expect("it is there");
    for name in metrics_in(&rules) {
        assert!(exposed.contains(&name), "{name} in the rules is no metric");
    }
}

/// How often and how long programs run, the kernel counts on request only.
#[test]
fn what_the_kernel_does_not_count_is_no_metric() {
    need_kernel!();
    let (observer, port) = observer(&[]);
    send(&observer, std::process::id(), 1..=3);
    observer.expect_count("beats", 3, |event| is(event, "beat"));
    let (_, text) = get(port, "/metrics").expect("a response");
    let counted = fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").expect("it is there");
    assert_eq!(
        text.contains("observer_ebpf_runs_total"),
        counted.trim() == "1",
        "{text}"
    );
}

/// The mode of the control socket keeps others out; should somebody widen it,
/// the peer's credentials still do.
#[test]
fn the_control_socket_is_for_its_own_user_only() {
    need_kernel!();
    let setup = Setup::new(60_000);
    let control = setup.directory().join("control");
    let observer = setup
        .arg("--control")
        .arg(&control.display().to_string())
        .start();
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(observer.directory(), open).expect("sets");
    let binary = Binary::new();
    let status = |privilege| {
        let mut command = binary.command(privilege);
        command.args(["status", "--control"]).arg(&control);
        command.output().expect("it runs")
    };
    assert!(status(Privilege::Root).status.success());
    let refused = status(Privilege::NONE);
    assert_eq!(refused.status.code(), Some(1));
    let output = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(output.contains("own user and root may use it"), "{output}");

    fs::set_permissions(&control, fs::Permissions::from_mode(0o666)).expect("sets");
    let refused = status(Privilege::NONE);
    assert_eq!(refused.status.code(), Some(1));
    let output = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(output.contains("own user and root may use it"), "{output}");
    let log = observer.stop().log.join("\n");
    assert!(log.contains("refused a request of user 65534"), "{log}");
}

/// The other way round: an observer of another user responds to root and to that
/// user.
#[test]
fn an_observer_of_another_user_responds_to_root() {
    need_kernel!();
    let folder = tempfile::tempdir().expect("a directory");
    chown(folder.path(), Some(65534), Some(65534)).expect("root may");
    let control = folder.path().join("control").display().to_string();
    let binary = Binary::new();
    let observer = binary
        .start(Privilege::BTF, &["--control", &control])
        .unwrap_or_else(|remains| panic!("{:#?}", remains.log));
    for privilege in [Privilege::Root, Privilege::NONE] {
        let mut command = binary.command(privilege);
        let output = command
            .args(["status", "--json", "--control", &control])
            .output();
        let output = output.expect("it runs");
        assert!(output.status.success(), "{privilege:?}: {output:?}");
        let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(status["pid"], observer.pid());
    }
}
