//! An audit trail in a folder, and what the observer's own verbs find in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::observer::{Observer, PATIENCE, Setup};
use crate::{must, observer_binary};

/// A trail in a folder.
pub struct Trail {
    folder: PathBuf,
}

impl Trail {
    /// Makes its keys.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let trail = Self {
            folder: folder.to_owned(),
        };
        must(
            Command::new(observer_binary())
                .args(["audit", "keygen", "--audit-key"])
                .arg(trail.path("key"))
                .arg("--verify-key")
                .arg(trail.path("verify-key")),
        );
        trail
    }

    /// One of its files: `trail`, `key`, `verify-key`.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// An observer that keeps it.
    #[must_use]
    pub fn observer(&self, setup: Setup) -> Observer {
        let path = |name| self.path(name).display().to_string();
        setup
            .arg("--audit")
            .arg(&path("trail"))
            .arg("--audit-key")
            .arg(&path("key"))
            .arg("--audit-seal-ms")
            .arg("50")
            .start()
    }

    /// Its lines.
    #[must_use]
    pub fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("trail")).expect("a trail");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    /// Those of its lines that are complete while an observer writes; none if
    /// there is no file.
    #[must_use]
    pub fn complete_lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("trail")).unwrap_or_default();
        text.split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    /// The evidence about the sender with this pid, once it is there.
    ///
    /// # Panics
    /// If it does not come.
    #[must_use]
    pub fn evidence(&self, pid: u64) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut lines = self.complete_lines().into_iter();
            if let Some(line) =
                lines.find(|line| line["kind"] == "evidence" && line["sender"]["pid"] == pid)
            {
                return line;
            }
            assert!(Instant::now() < end, "no evidence about {pid}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// `verify` must find it clean, key file and all.
    pub fn assert_clean(&self) {
        must(
            Command::new(observer_binary())
                .args(["audit", "verify"])
                .arg(self.path("trail"))
                .arg("--key")
                .arg(self.path("verify-key"))
                .arg("--host-key")
                .arg(self.path("key")),
        );
    }

    /// What `observer audit report` prints.
    #[must_use]
    pub fn report(&self, flags: &[&str]) -> String {
        let output = Command::new(observer_binary())
            .args(["audit", "report"])
            .arg(self.path("trail"))
            .args(flags)
            .output()
            .expect("it can be started");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    }
}
