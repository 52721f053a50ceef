//! This host's own kernel, as a further column of the tables.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::report::Report;
use super::suite::Step;
use crate::process;

/// Files of tests whose facts the tables are made of. The others run on this
/// host by `cargo xtask test`.
pub(super) const SURVEY: [&str; 3] = ["doctor", "tiers", "verifier"];

/// Runs the survey, with its words in `folder`.
///
/// # Errors
/// If a test fails.
pub(super) fn survey(steps: &[Step], folder: &Path) -> Result<Report> {
    fs::create_dir_all(folder)?;
    let facts = folder.join("report.jsonl");
    if facts.exists() {
        fs::remove_file(&facts)?;
    }
    for step in steps
        .iter()
        .filter(|step| SURVEY.contains(&step.name.as_str()))
    {
        process::run(&mut step.on_this_host(&facts))?;
    }
    Report::parse(&fs::read_to_string(&facts)?)
}

/// Series of the running kernel, such as `6.12`.
pub(super) fn series() -> String {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    release.split('.').take(2).collect::<Vec<_>>().join(".")
}
