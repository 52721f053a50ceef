//! Trails that are written, damaged and verified.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::segments::family;
use crate::verify::{Fault, Input, Verification, verify};
use crate::*;
use observer_events::event::{Attestation, AuthFailureCause, TaskKind, Via};

mod access;
mod content;
mod crash;
mod disk;
mod followed;
mod hostile;
mod moved;
mod repaired;
mod rotation;
mod sources;
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

    /// Its files, by their names.
    fn files(&self) -> Vec<PathBuf> {
        let files = family(&self.options.file).unwrap().into_iter();
        // The one that grows comes last.
        let (growing, mut rotated): (Vec<_>, Vec<_>) =
            files.partition(|file| *file == self.options.file);
        rotated.sort();
        rotated.into_iter().chain(growing).collect()
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
            files: vec![self.options.file.clone()],
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

/// Waits until so many lines of the trail are on the disk.
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
