//! The public API of the libraries, against the listings in `api`.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::Outcome;
use crate::workspace::Workspace;
use crate::{process, say};

/// The libraries, and features without which a part of the API is missing.
const LIBRARIES: [(&str, &str); 4] = [
    ("observer", ""),
    ("observer-audit", ""),
    ("observer-common", "user"),
    ("observer-events", ""),
];

/// The listings are what this rustdoc says. The JSON of another can be of
/// another format, or list implementations that the library had before.
const RUSTDOC: &str = env!("CARGO_PKG_RUST_VERSION");

pub(super) fn check(workspace: &Workspace) -> Result<Outcome> {
    let version = rustdoc_version()?;
    if !is_expected(&version) {
        return Ok(Outcome::NotRun(format!(
            "the listings are made by rustdoc {RUSTDOC}, and this is {version}"
        )));
    }
    let mut changes = Vec::new();
    for (library, features) in LIBRARIES {
        let stored = fs::read_to_string(listing(workspace, library)).unwrap_or_default();
        let current = list(workspace, library, features)?;
        changes.extend(compare(library, &stored, &current));
    }
    if !changes.is_empty() {
        bail!(
            "\n{}\nIf that is meant: cargo xtask check --update-api",
            changes.join("\n")
        );
    }
    Ok(Outcome::Passed(format!("{} libraries", LIBRARIES.len())))
}

/// Writes the listings.
pub(super) fn update(workspace: &Workspace) -> Result<()> {
    let version = rustdoc_version()?;
    if !is_expected(&version) {
        bail!("the listings are made by rustdoc {RUSTDOC}, and this is {version}");
    }
    for (library, features) in LIBRARIES {
        let path = listing(workspace, library);
        fs::write(&path, list(workspace, library, features)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        say::good("written", path.display());
    }
    Ok(())
}

fn listing(workspace: &Workspace, library: &str) -> PathBuf {
    workspace.root().join("api").join(format!("{library}.txt"))
}

fn rustdoc_version() -> Result<String> {
    let version = process::capture(Command::new("rustdoc").arg("--version"))?;
    let version = version.trim();
    Ok(version.strip_prefix("rustdoc ").unwrap_or(version).into())
}

fn is_expected(version: &str) -> bool {
    version
        .strip_prefix(RUSTDOC)
        .is_some_and(|patch| patch.starts_with('.'))
}

/// The public API as it is now, an item a line.
fn list(workspace: &Workspace, library: &str, features: &str) -> Result<String> {
    let mut rustdoc = process::cargo(workspace);
    rustdoc
        .env("RUSTDOC", workspace.root().join("api/rustdoc.sh"))
        .args(["rustdoc", "--locked", "--quiet", "--lib"])
        .args(["--package", library, "--features", features])
        .args(["--", "-Zunstable-options", "--output-format", "json"]);
    process::capture(&mut rustdoc)?;
    let json = format!("doc/{}.json", library.replace('-', "_"));
    let mut list = process::cargo(workspace);
    list.args([
        "run",
        "--locked",
        "--quiet",
        "--package",
        "observer-api",
        "--",
    ])
    .arg(workspace.target().join(json));
    process::capture(&mut list)
}

/// What has gone, and what has come.
fn compare(library: &str, stored: &str, current: &str) -> Vec<String> {
    let [old, new] = [stored, current].map(|text| text.lines().collect::<HashSet<_>>());
    let gone = stored.lines().filter(|line| !new.contains(line));
    let gone = gone.map(|line| format!("{library}: - {line}"));
    let come = current.lines().filter(|line| !old.contains(line));
    let come = come.map(|line| format!("{library}: + {line}"));
    let mut changes: Vec<String> = gone.chain(come).collect();
    if changes.is_empty() && stored != current {
        changes.push(format!("{library}: the same lines in another order"));
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_gone_and_come_is_named() {
        assert_eq!(
            compare(
                "a",
                "pub fn a::f()\npub mod a\n",
                "pub fn a::g()\npub mod a\n"
            ),
            ["a: - pub fn a::f()", "a: + pub fn a::g()"]
        );
        assert_eq!(
            compare("a", "1\n2\n", "2\n1\n"),
            ["a: the same lines in another order"]
        );
        assert!(compare("a", "1\n2\n", "1\n2\n").is_empty());
    }

    #[test]
    fn other_versions_are_told_apart() {
        assert!(is_expected(&format!("{RUSTDOC}.0 (59807616e 2026-04-14)")));
        assert!(!is_expected(&format!("{RUSTDOC}0.0")));
        assert!(!is_expected("1.9.0"));
    }
}
