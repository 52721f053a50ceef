//! The trail against crashes and against everything that an editor can do.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::verify::{Fault, Input, Verification, verify};
use super::*;
use observer_events::event::{Attestation, AuthFailureCause, TaskKind, Via};

mod crash;
mod rotation;
mod tampering;

/// A trail in a folder of its own.
struct Scene {
    folder: tempfile::TempDir,
    options: Options,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            sync_after: Some(Duration::ZERO),
            seal_after: Duration::from_millis(1),
            ..Options::new(folder.path().join("trail"), folder.path().join("key"))
        };
        let scene = Self { folder, options };
        generate(&scene.options.key, &scene.path("verify-key")).unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn open(&self) -> Trail {
        Trail::open(&self.options).unwrap()
    }

    /// A run with some incidents that ends in order.
    fn run(&self, incidents: u32) {
        let trail = self.open();
        for number in 0..incidents {
            trail.incident(incident(number));
        }
        let counts = trail.close("test", Duration::from_secs(10)).unwrap();
        assert_eq!(counts.audit_lost, 0);
    }

    /// A run in which each incident has an epoch of its own.
    fn run_in_epochs(&self, incidents: u32) {
        let trail = self.open();
        for number in 0..incidents {
            // The incident and its seal.
            let sealed = trail.on_disk().saturating_add(2);
            trail.incident(incident(number));
            wait_for(&trail, sealed);
        }
        trail.close("test", Duration::from_secs(10)).unwrap();
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.options.file).unwrap()
    }

    fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }

    fn write(&self, lines: &[String]) {
        let mut text = lines.join("\n");
        text.push('\n');
        fs::write(&self.options.file, text).unwrap();
    }

    fn input(&self) -> Input {
        Input {
            file: self.options.file.clone(),
            key: self.path("verify-key"),
            host_key: None,
            running: false,
        }
    }

    fn verify(&self) -> Verification {
        verify(&self.input()).unwrap()
    }

    fn verify_with_host_key(&self) -> Verification {
        let host_key = Some(self.options.key.clone());
        verify(&Input {
            host_key,
            ..self.input()
        })
        .unwrap()
    }

    /// What is found, by line.
    fn faults(&self) -> Vec<(Option<u64>, Fault)> {
        faults(self.verify())
    }

    #[track_caller]
    fn assert_clean(&self) {
        for verification in [self.verify(), self.verify_with_host_key()] {
            assert!(
                verification.is_clean(),
                "{verification:#?}\n{}",
                self.text()
            );
            assert!(verification.stopped, "{verification:#?}");
        }
    }
}

fn faults(verification: Verification) -> Vec<(Option<u64>, Fault)> {
    let findings = verification.findings.into_iter();
    findings.map(|found| (found.line, found.fault)).collect()
}

/// A forgery by the process with this number, which the observer cannot see:
/// there is no evidence to add.
fn incident(number: u32) -> Incident {
    Incident {
        what: What::AuthFailure {
            cause: AuthFailureCause::PidMismatch,
        },
        count: 1,
        claimed_pid: Some(4242),
        observer_ns: 1,
        frame: Some([7; 32]),
        sender: Some(Attestation {
            own_pid: Some(1),
            // Beyond what a kernel gives.
            host_pid: Some(1 << 30 | number),
            pid_ns_inode: Some(4_026_531_836),
            uid: Some(1000),
            gid: Some(1000),
            start_ns: Some(1),
            task_kind: TaskKind::Thread,
            ..Attestation::unknown(Via::Btf)
        }),
        source: None,
    }
}

/// Waits until the trail has so many lines on the disk.
#[track_caller]
fn wait_for(trail: &Trail, line: u64) {
    let began = Instant::now();
    while trail.on_disk() < line {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "line {line} does not come"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

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
fn old_keys_are_gone_from_the_host() {
    let scene = Scene::new();
    let first = fs::read_to_string(&scene.options.key).unwrap();
    let old = fs::File::open(&scene.options.key).unwrap();
    scene.run(1);
    let now = fs::read_to_string(&scene.options.key).unwrap();
    let key = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["key"].clone();
    assert_ne!(key(&first), key(&now));
    // The file that the first key was in has been overwritten.
    let left = std::io::read_to_string(old).unwrap();
    assert_eq!(left.trim_matches('\0'), "", "{left:?}");
    assert!(!scene.path("key.next").exists());
}

#[test]
fn files_are_the_owners_only_and_links_are_not_followed() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let scene = Scene::new();
    fs::write(scene.path("elsewhere"), "").unwrap();
    symlink(scene.path("elsewhere"), &scene.options.file).unwrap();
    assert!(matches!(
        Trail::open(&scene.options),
        Err(OpenError::File(_))
    ));
    assert_eq!(fs::read(scene.path("elsewhere")).unwrap(), b"");
    fs::remove_file(&scene.options.file).unwrap();
    scene.run(1);
    for file in ["trail", "key", "verify-key"] {
        let mode = fs::metadata(scene.path(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{file}");
    }
}

/// Somebody who made the file before the observer did could write to it.
#[test]
fn files_that_others_made_or_may_write_to_are_refused() {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    let scene = Scene::new();
    let set_mode = |file: &str, mode| {
        fs::set_permissions(scene.path(file), fs::Permissions::from_mode(mode)).unwrap();
    };
    let refusal = |file: &str| {
        let error = Trail::open(&scene.options).unwrap_err().to_string();
        let named = scene.path(file).display().to_string();
        assert!(error.contains(&named), "{error}");
        error
    };
    fs::write(&scene.options.file, "").unwrap();
    for mode in [0o666, 0o620, 0o602] {
        set_mode("trail", mode);
        let said = refusal("trail");
        assert!(said.contains("lets others write to it"), "{said}");
    }
    // An auditor's group may read it.
    set_mode("trail", 0o640);
    scene.run(1);
    set_mode("key", 0o640);
    assert!(refusal("key").contains("lets others use the key"));
    set_mode("key", 0o600);
    scene.run(1);
    if rustix::process::geteuid().is_root() {
        for file in ["trail", "key"] {
            chown(scene.path(file), Some(65534), None).unwrap();
            assert!(refusal(file).contains("belongs to user 65534"));
            chown(scene.path(file), Some(0), None).unwrap();
        }
    }
    scene.assert_clean();
}

#[test]
fn one_trail_has_one_writer() {
    let scene = Scene::new();
    let trail = scene.open();
    wait_for(&trail, 1);
    let second = Trail::open(&scene.options);
    assert!(matches!(second, Err(OpenError::Key(_))), "{second:?}");
    trail.close("test", Duration::from_secs(10)).unwrap();
    scene.assert_clean();
}

#[test]
fn keys_are_not_taken_for_each_other() {
    let scene = Scene::new();
    let options = Options {
        key: scene.path("verify-key"),
        ..scene.options.clone()
    };
    let error = Trail::open(&options).unwrap_err().to_string();
    assert!(error.contains("is a key to verify with"), "{error}");
    assert!(generate(&scene.options.key, &scene.path("another")).is_err());
    assert!(!scene.path("another").exists(), "half a pair was left");
    assert!(generate(&scene.path("new"), &scene.path("new")).is_err());
    assert!(!scene.path("new").exists());
    let other = Scene::new();
    scene.run(1);
    other.run(1);
    let mixed = Input {
        host_key: Some(other.options.key.clone()),
        ..scene.input()
    };
    assert!(verify(&mixed).unwrap_err().to_string().contains("of trail"));
    fs::copy(&other.options.file, &scene.options.file).unwrap();
    assert!(!scene.verify().is_clean());
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

/// A line is on the disk as soon as the policy says, and no earlier for
/// nothing.
#[test]
fn lines_are_on_the_disk_when_the_policy_says() {
    let later = Duration::from_mins(10);
    let second = Duration::from_secs(1);
    for (sync_after, is_synced) in [(Some(second), true), (None, false)] {
        let scene = Scene::new();
        let options = Options {
            sync_after,
            seal_after: later,
            ..scene.options.clone()
        };
        let trail = Trail::open(&options).unwrap();
        assert_eq!(trail.on_disk(), 1, "the start is there at once");
        let began = Instant::now();
        trail.incident(incident(1));
        if is_synced {
            std::thread::sleep(Duration::from_millis(200));
            assert_eq!(trail.on_disk(), 1);
            wait_for(&trail, 2);
            assert!(began.elapsed() < second, "{:?}", began.elapsed());
        } else {
            std::thread::sleep(Duration::from_millis(300));
            assert_eq!(trail.on_disk(), 1);
        }
        // Others can read it meanwhile.
        assert_eq!(scene.lines().len(), 2);
        trail.close("test", Duration::from_secs(10)).unwrap();
        scene.assert_clean();
    }
}

/// With the next seal, a seal is what puts the lines on the disk.
#[test]
fn a_seal_is_on_the_disk_at_once() {
    let scene = Scene::new();
    let options = Options {
        sync_after: None,
        seal_after: Duration::from_millis(100),
        ..scene.options.clone()
    };
    let trail = Trail::open(&options).unwrap();
    trail.incident(incident(1));
    wait_for(&trail, 3);
    assert!(scene.lines()[2].contains("\"kind\":\"seal\""));
    trail.close("test", Duration::from_secs(10)).unwrap();
}

/// Whatever is done to the bytes of a trail or of its keys, nothing panics,
/// and no other text than the one that was written is clean.
#[test]
fn no_damage_passes_and_none_panics() {
    let scene = Scene::new();
    scene.run_in_epochs(3);
    let good = scene.text().into_bytes();
    let key = fs::read(&scene.options.key).unwrap();
    arbtest::arbtest(|u| {
        let text = damaged(&good, u)?;
        fs::write(&scene.options.file, &text).unwrap();
        assert_eq!(scene.verify().is_clean(), text == good, "{text:?}");
        report::summarize(&scene.options.file).unwrap();
        for line in text.split(|&byte| byte == b'\n') {
            let shown = report::Line::parse(line).map(|line| line.to_string());
            assert!(
                shown.is_none_or(|shown| shown.bytes().all(|byte| (b' '..=b'~').contains(&byte)))
            );
        }
        fs::write(&scene.options.key, damaged(&key, u)?).unwrap();
        // Good or bad, and what the trail is, is another question.
        drop(verify(&Input {
            host_key: Some(scene.options.key.clone()),
            ..scene.input()
        }));
        if let Ok(trail) = Trail::open(&scene.options) {
            trail.close("test", Duration::from_secs(10)).unwrap();
        }
        fs::write(&scene.options.key, &key).unwrap();
        Ok(())
    })
    .budget_ms(2000);
}

/// Some bytes changed, put in, cut out or moved.
fn damaged(
    good: &[u8],
    u: &mut arbtest::arbitrary::Unstructured<'_>,
) -> arbtest::arbitrary::Result<Vec<u8>> {
    let mut bytes = good.to_vec();
    for _ in 0..u.int_in_range(0..=3)? {
        let from = u.choose_index(bytes.len().max(1))?.min(bytes.len());
        let to = bytes
            .len()
            .min(from.saturating_add(u.int_in_range(0..=600)?));
        match u.int_in_range(0..=3)? {
            0 => drop(bytes.drain(from..to)),
            1 => {
                let part = bytes[from..to].to_vec();
                let at = u.choose_index(bytes.len().max(1))?.min(bytes.len());
                bytes.splice(at..at, part);
            }
            2 => {
                let other = u.arbitrary::<[u8; 4]>()?;
                bytes.splice(from..to.min(from.saturating_add(4)), other);
            }
            _ => bytes.truncate(from),
        }
    }
    Ok(bytes)
}

#[test]
fn hostile_files_are_read_with_bounded_memory_and_no_panic() {
    let scene = Scene::new();
    scene.run(2);
    let good = scene.text();
    let huge = "x".repeat(3 * MAX_LINE);
    let line = |seq: u64, epoch: u64| {
        let zeros = "0".repeat(64);
        format!(
            "{{\"seq\":{seq},\"epoch\":{epoch},\"prev\":\"{zeros}\",\"time\":\"\",\"kind\":\"seal\",\"mac\":\"{zeros}\"}}"
        )
    };
    let texts = [
        String::new(),
        "\n\n\n".into(),
        huge.clone(),
        format!("{huge}\n{good}"),
        format!("{}\n{good}", line(u64::MAX, u64::MAX)),
        format!("{}\n{good}", line(1, MAX_EPOCH + 1)),
        format!("{good}{}\n", line(u64::MAX, 1)),
        good.replace("\"seq\":2", "\"seq\":99999999999999999999999"),
        good.replace("\"seq\":2", "\"seq\":"),
        good.replace("\"mac\"", "\"\u{1b}[2J\""),
    ];
    for text in texts {
        fs::write(&scene.options.file, &text).unwrap();
        let verification = scene.verify();
        assert!(!verification.is_clean(), "{text:.100}");
        report::summarize(&scene.options.file).unwrap();
    }
}
