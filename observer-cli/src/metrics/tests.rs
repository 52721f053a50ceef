use observer_events::counters::Counters;
use observer_events::histogram::{BOUNDS_NS, Histogram};

use super::*;

/// Every count has a number of its own.
fn status() -> DaemonStatus {
    let mut counters = serde_json::to_value(Counters::default()).unwrap();
    let values = counters.as_object_mut().unwrap().values_mut();
    for (number, value) in (1001_u32..).zip(values) {
        *value = number.into();
    }
    let route = |route, name: &str, runs| {
        serde_json::json!({
            "route": route, "tier": "btf", "weaker": null, "records_waiting": 7,
            "program": {"name": name, "runs": runs, "run_time": {"secs": 0, "nanos": 500}},
        })
    };
    let histogram = Histogram {
        counts: [1; BOUNDS_NS.len() + 1],
        sum_ns: 2_500_000_000,
    };
    serde_json::from_value(serde_json::json!({
        "version": "1.2.3", "pid": 42, "started": "2026-01-02T03:04:05.5Z",
        "time": "2026-01-02T03:05:05Z", "kernel": "6.18.5", "lockdown": "none",
        "socket": "/s", "udp": [],
        "observer": {
            "observer_ns": 1, "threshold_ns": 2_000_000_000_u64, "max_agents": 16,
            "agents": {"ok": 1, "degraded": 2, "critical": 3, "silent": 4},
            "division": {"owners": 5, "share": 6,
                         "largest": {"origin": "kernel_attested", "uid": 7, "agents": 8}},
            "oldest_beat_age_ns": 1_500_000_000_u64,
            "beat_gaps": histogram, "stall_lateness": Histogram::default(),
            "counters": counters,
            "routes": [route("unix", "unix_btf", 9), route("udp", "udp_btf", 0)],
            "frames_parked": 3,
        },
        "sinks": [{"sink": "stdout", "lost": 11}, {"sink": "audit", "lost": 12}],
        "audit": {"trail": "t", "audit_lost": 12, "audit_incidents": 13, "audit_lines": 14,
                  "audit_failures": 15, "audit_unread": 16},
        "agents": [], "attacks": [],
    }))
    .unwrap()
}

fn rendered(format: TextFormat) -> String {
    render(status(), format).unwrap()
}

/// Every count can be scraped: none was forgotten here.
#[test]
fn each_count_is_exposed() {
    let text = rendered(TextFormat::OpenMetrics);
    let counters = serde_json::to_value(status().observer.counters).unwrap();
    for (name, value) in counters.as_object().unwrap() {
        let seconds = value.as_f64().unwrap() / 1e9;
        let exposed = text.lines().filter(|line| !line.starts_with('#'));
        let mut samples = exposed.filter_map(|line| line.rsplit_once(' '));
        let value = value.to_string();
        assert!(
            samples.any(|(_, sample)| sample == value || sample.parse() == Ok(seconds)),
            "{name} {value} is not in\n{text}"
        );
    }
}

/// The number of series does not grow with the number of senders.
#[test]
fn nobody_who_sends_adds_a_series() {
    let mut crowded = status();
    crowded.agents = (1000..2000)
        .map(|pid| {
            serde_json::from_value(serde_json::json!({
                "pid": pid, "state": "ok", "age_ns": 1, "last_nonce": 1,
                "origin": "kernel_attested", "pid_ns_inode": pid, "own_pid": pid, "uid": pid,
                "comm": format!("agent {pid}"), "start_ns": pid,
            }))
            .unwrap()
        })
        .collect();
    crowded.incidents = (1000..2000)
        .map(|pid| {
            serde_json::from_value(serde_json::json!({
                "kind": "auth_failure", "cause": "pid_mismatch", "claimed_pid": pid, "pid": pid,
                "host_pid": pid, "pid_ns_inode": pid, "start_ns": pid, "uid": pid,
                "comm": format!("forger {pid}"), "via": "btf", "source": null, "count": 1,
                "first": "2026-01-02T03:04:05Z", "last": "2026-01-02T03:04:05Z",
            }))
            .unwrap()
        })
        .collect();
    let text = render(crowded, TextFormat::OpenMetrics).unwrap();
    assert_eq!(text, rendered(TextFormat::OpenMetrics));
    let samples = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(samples < 150, "{samples}");
}

#[test]
fn samples_read_as_they_should() {
    let text = rendered(TextFormat::OpenMetrics);
    for line in [
        "# HELP observer_events What the observer found, by kind",
        "# TYPE observer_events counter",
        "# TYPE observer_attestation info",
        r#"observer_attestation_info{route="unix",tier="btf"} 1"#,
        r#"observer_attestation_weaker{route="udp"} 0.0"#,
        r#"observer_build_info{version="1.2.3"} 1"#,
        "observer_start_time_seconds 1767323045.5",
        r#"observer_agents{state="silent"} 4.0"#,
        "observer_oldest_beat_age_seconds 1.5",
        "observer_beat_age_seconds_sum 2.5",
        "observer_beat_age_seconds_count 15",
        r#"observer_beat_age_seconds_bucket{le="0.001"} 1"#,
        r#"observer_beat_age_seconds_bucket{le="+Inf"} 15"#,
        r#"observer_stall_lateness_seconds_bucket{le="+Inf"} 0"#,
        r#"observer_lost_total{stage="stdout"} 11"#,
        r#"observer_lost_total{stage="audit"} 12"#,
        r#"observer_ebpf_runs_total{program="unix_btf"} 9"#,
        r#"observer_ebpf_run_seconds_total{program="unix_btf"} 5e-7"#,
        "observer_audit_lines_total 14",
        "observer_audit_unread_total 16",
    ] {
        assert!(
            text.lines().any(|other| other == line),
            "no {line} in\n{text}"
        );
    }
    assert!(text.ends_with("# EOF\n"));
    assert!(!text.contains("udp_btf"), "it was not counted");
}

#[test]
fn the_classic_format_names_families_as_their_samples() {
    let text = rendered(TextFormat::Classic);
    for line in [
        "# HELP observer_events_total What the observer found, by kind",
        "# TYPE observer_events_total counter",
        "# TYPE observer_attestation_info gauge",
        "# TYPE observer_agents gauge",
        "# TYPE observer_beat_age_seconds histogram",
    ] {
        assert!(
            text.lines().any(|other| other == line),
            "no {line} in\n{text}"
        );
    }
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
    let samples = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    };
    let open = rendered(TextFormat::OpenMetrics);
    assert_eq!(samples(&text), samples(&open));
}

/// The table in the documentation is the list of metrics, no more and no less.
#[test]
fn the_documentation_lists_what_is_exposed() {
    let text = rendered(TextFormat::Classic);
    let mut table = String::from("| metric | type | labels | |\n|---|---|---|---|\n");
    let mut help = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            (_, help) = rest.split_once(' ').unwrap();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            let labels = labels_of(&text, name);
            let cells = [
                "| `", name, "` | ", kind, " | ", &labels, " | ", help, " |\n",
            ];
            table.extend(cells);
        }
    }
    let documented = include_str!("../../../docs/metrics.md");
    assert!(
        documented.contains(&table),
        "docs/metrics.md is to have:\n{table}"
    );
    assert_eq!(
        documented.matches("| `").count(),
        table.matches("| `").count()
    );
}

/// The labels of a family's first sample.
fn labels_of(text: &str, name: &str) -> String {
    let of_family = |line: &&str| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with('{'))
    };
    let Some(sample) = text.lines().find(of_family) else {
        return String::new();
    };
    let names = sample.split(['{', ',']).skip(1);
    let names = names.filter_map(|label| label.split_once('='));
    let names: Vec<String> = names.map(|(name, _)| format!("`{name}`")).collect();
    names.join(", ")
}

#[test]
fn a_scraper_gets_what_it_requests() {
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2,*/*;q=0.1";
    assert_eq!(
        TextFormat::accepted(Some(prometheus)),
        TextFormat::OpenMetrics
    );
    for classic in [
        None,
        Some("*/*"),
        Some("text/plain;version=0.0.4"),
        Some("application/openmetrics-text;q=0, */*"),
        Some("application/openmetrics-text; q=x"),
        Some("text/plain, application/openmetrics-text;version=1.0.0;q=0.9"),
        Some(""),
    ] {
        assert_eq!(TextFormat::accepted(classic), TextFormat::Classic);
    }
}
