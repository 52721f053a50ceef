//! The test programs, and the disk that they go on.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::image::{Contents, Image};
use super::suite::Step;
use crate::workspace::Workspace;
use crate::{build_ebpf, build_observer, process};

/// Wire vectors, which a test reads.
const VECTORS: &str = "observer-common/vectors/vlp-frames.json";

/// What the end-to-end tests are made of.
pub(super) struct Built {
    /// One program for each file of tests.
    pub(super) tests: Vec<PathBuf>,
    /// What tests start.
    helpers: Vec<PathBuf>,
    /// The library's unit tests, of which some read the kernel's types.
    pub(super) unit_tests: PathBuf,
}

/// Builds the observer and the end-to-end tests.
///
/// # Errors
/// If that fails.
pub(super) fn build(workspace: &Workspace) -> Result<Built> {
    build_observer::build(workspace, false)?;
    let mut artifacts = Vec::new();
    for args in [
        &["--package", "observer-tests"][..],
        &["--package", "observer", "--lib"],
    ] {
        artifacts.extend(build_artifacts(workspace, args)?);
    }
    let named = |kind: &str| {
        let of_kind = artifacts
            .iter()
            .filter(move |artifact| artifact.kind == kind);
        of_kind
            .map(|artifact| artifact.executable.clone())
            .collect()
    };
    let unit_tests = artifacts
        .iter()
        .find(|artifact| artifact.kind == "lib" && artifact.name == "observer")
        .context("cargo built no unit tests of the library")?;
    Ok(Built {
        tests: named("test"),
        helpers: named("bin"),
        unit_tests: unit_tests.executable.clone(),
    })
}

/// An executable that cargo built.
struct Artifact {
    kind: String,
    name: String,
    executable: PathBuf,
}

/// Builds tests, and returns them with the binaries that they start.
fn build_artifacts(workspace: &Workspace, args: &[&str]) -> Result<Vec<Artifact>> {
    let mut cargo = process::cargo(workspace);
    cargo
        .args([
            "test",
            "--no-run",
            "--message-format=json-render-diagnostics",
        ])
        .args(args)
        .stderr(Stdio::inherit());
    build_ebpf::embed(workspace, false, &mut cargo);
    let messages = cargo
        .output()
        .with_context(|| process::cannot_start(&cargo))?;
    if !messages.status.success() {
        bail!("the tests cannot be built");
    }
    let mut artifacts = Vec::new();
    for line in String::from_utf8_lossy(&messages.stdout).lines() {
        artifacts.extend(artifact(&serde_json::from_str(line)?));
    }
    Ok(artifacts)
}

/// The executable that a message of cargo's names, if it does
/// (<https://doc.rust-lang.org/cargo/reference/external-tools.html>). A
/// binary's own unit tests are of no interest.
fn artifact(message: &Value) -> Option<Artifact> {
    let text = |pointer| Some(message.pointer(pointer)?.as_str()?.to_owned());
    let kind = text("/target/kind/0")?;
    let is_test = message.pointer("/profile/test")?.as_bool()?;
    (is_test != (kind == "bin")).then_some(())?;
    Some(Artifact {
        kind,
        name: text("/target/name")?,
        executable: text("/executable")?.into(),
    })
}

impl Built {
    /// Lays out a guest's disk in the folder.
    ///
    /// # Errors
    /// If a file cannot be had.
    pub(super) fn lay_out(
        &self,
        workspace: &Workspace,
        steps: &[Step],
        folder: &Path,
    ) -> Result<Image> {
        let init = self
            .helpers
            .iter()
            .find(|program| program.file_name().is_some_and(|name| name == "guest"))
            .context("the tests have no program `guest`")?;
        let more = [
            workspace.observer(),
            workspace.root().join(VECTORS),
            self.unit_tests.clone(),
        ];
        let files: Vec<PathBuf> = [&more[..], &self.tests, &self.helpers].concat();
        let contents = Contents {
            init,
            files: &files,
            steps,
        };
        Image::lay_out(folder, &contents)
    }
}
