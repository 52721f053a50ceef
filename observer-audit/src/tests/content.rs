//! What is on the lines, and that they are numbered and counted.

use std::os::unix::fs::MetadataExt as _;

use super::*;

#[test]
fn an_incident_in_full_and_then_its_evidence() {
    let scene = Scene::new();
    let mut ended = incident(0);
    if let Some(sender) = &mut ended.sender {
        sender.pid = sender.host_pid;
    }
    let trail = scene.open();
    trail.incident(ended);
    trail.close("test", Duration::from_secs(10)).unwrap();
    let lines = scene.lines();
    let lines = lines.iter().map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<serde_json::Value> = lines.collect();
    let line = &lines[1];
    assert_eq!(line["kind"], "auth_failure");
    assert_eq!(line["cause"], "pid_mismatch");
    assert_eq!(line["claimed_pid"], 4242);
    assert_eq!(line["frame"], "07".repeat(32));
    assert_eq!(line["sender"]["host_pid"], 1 << 30);
    let time: jiff::Timestamp = line["time"].as_str().unwrap().parse().unwrap();
    assert!(jiff::Timestamp::now().duration_since(time).as_secs() < 60);
    let evidence = lines.iter().find(|line| line["kind"] == "evidence");
    let evidence = evidence.unwrap();
    assert_eq!(evidence["line"], 2);
    assert_eq!(evidence["sender"], line["sender"]);
    assert!(evidence["late_ms"].as_u64().unwrap() < 60_000);
    assert_eq!(evidence["process"]["read"], "after_the_fact");
    assert_eq!(evidence["process"]["error"], "the process has ended");
    scene.assert_clean();
}

/// By its id alone: nothing else is known of a sender that has ended.
#[test]
fn a_sender_is_in_a_cgroup_below_the_mount_that_was_named() {
    let mut scene = Scene::new();
    let mount = tempfile::tempdir().unwrap();
    let cgroup = mount.path().join("some.slice/some.service");
    fs::create_dir_all(&cgroup).unwrap();
    scene.options.cgroup_mount = Some(mount.path().to_owned());
    scene.options.kernel = "6.12.0".into();
    let mut incident = incident(0);
    if let Some(sender) = &mut incident.sender {
        sender.cgroup_id = Some(fs::metadata(&cgroup).unwrap().ino());
    }
    let trail = scene.open();
    trail.incident(incident);
    trail.close("test", Duration::from_secs(10)).unwrap();
    let lines = scene.lines();
    assert!(lines[0].contains("\"kernel\":\"6.12.0\""), "{lines:#?}");
    let evidence = lines.iter().find(|line| line.contains("\"evidence\""));
    let expected = "\"container\":{\"cgroup\":\"/some.slice/some.service\",\
                    \"unit\":\"some.service\",\"id\":null}";
    assert!(evidence.unwrap().contains(expected), "{lines:#?}");
}

#[test]
fn numbers_and_chain_go_on_across_restarts() {
    let scene = Scene::new();
    for _ in 0..3 {
        scene.run(2);
    }
    scene.assert_clean();
    let starts: Vec<_> = scene
        .lines()
        .into_iter()
        .filter(|line| line.contains("\"kind\":\"start\""))
        .collect();
    assert_eq!(starts.len(), 3);
    assert!(
        starts.iter().all(|line| line.contains("\"clean\":true")),
        "{starts:#?}"
    );
    assert_eq!(scene.verify().last_line, Some(scene.lines().len() as u64));
}

#[test]
fn a_full_queue_loses_and_says_how_much() {
    let scene = Scene::new();
    let options = Options {
        queue: 4,
        ..scene.options.clone()
    };
    let trail = Trail::open(&options).unwrap();
    for number in 0..100_000 {
        trail.incident(incident(number % 3));
    }
    let counts = trail.close("test", Duration::from_secs(10)).unwrap();
    assert!(counts.audit_lost > 0);
    assert_eq!(counts.audit_lost + counts.audit_incidents, 100_000);
    let verification = scene.verify();
    assert!(verification.is_clean(), "{verification:#?}");
    assert_eq!(verification.lost, counts.audit_lost);
    let summary = report::summarize(&scene.options.file).unwrap();
    assert_eq!(summary.incidents, counts.audit_incidents);
    assert_eq!(summary.attackers.len(), 3);
    assert_eq!(summary.victims.len(), 1);
    assert_eq!(summary.victims[0].pid, Some(4242));
}
