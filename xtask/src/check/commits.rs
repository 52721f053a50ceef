//! Subjects of commits: `area: what it does`, in at most 72 columns.

use std::process::Command;

use anyhow::{Result, bail};

use super::Outcome;
use crate::process;
use crate::workspace::Workspace;

/// The last commit whose history is not looked at: older subjects are as they
/// are.
const SINCE: &str = "b4b74506ac76b6cd7c3743e40222cb14fde526c5";

/// How many are looked at where that commit is absent, as in a shallow clone.
const LAST: &str = "--max-count=50";

const COLUMNS: usize = 72;

pub(super) fn check(workspace: &Workspace) -> Result<Outcome> {
    if !is_commit(workspace, "HEAD") {
        return Ok(Outcome::NotRun("this is no git checkout".into()));
    }
    let (range, which) = if is_commit(workspace, SINCE) {
        let (short, _) = SINCE.split_at(7);
        (format!("{SINCE}..HEAD"), format!("since {short}"))
    } else {
        (LAST.to_owned(), "that are here".to_owned())
    };
    let mut log = git(workspace);
    log.args(["log", "--no-merges", "--format=%h %s", &range]);
    let commits = process::capture(&mut log)?;
    let wrong: Vec<String> = commits.lines().filter_map(judge).collect();
    if !wrong.is_empty() {
        bail!("\n{}", wrong.join("\n"));
    }
    let count = commits.lines().count();
    Ok(Outcome::Passed(format!("{count} subjects {which}")))
}

/// What is wrong with the subject in `HASH SUBJECT`.
fn judge(commit: &str) -> Option<String> {
    let (hash, subject) = commit.split_once(' ').unwrap_or((commit, ""));
    let length = subject.chars().count();
    let wrong = if length > COLUMNS {
        format!("{length} columns are more than {COLUMNS}")
    } else if subject.contains(';') {
        "has a `;`, as of two commits".into()
    } else if !names_an_area(subject) {
        "is not `area: what it does`".into()
    } else {
        return None;
    };
    Some(format!("{hash} {wrong}: {subject}"))
}

fn names_an_area(subject: &str) -> bool {
    subject.split_once(": ").is_some_and(|(area, what)| {
        area.starts_with(|first: char| first.is_ascii_lowercase())
            && area
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            && what.starts_with(|first: char| !first.is_whitespace())
    })
}

fn is_commit(workspace: &Workspace, commit: &str) -> bool {
    let mut look = git(workspace);
    look.args(["cat-file", "-e", &format!("{commit}^{{commit}}")]);
    process::capture(&mut look).is_ok()
}

/// The checkout may be another user's: of root's CI, or of whom sudo was
/// started by.
fn git(workspace: &Workspace) -> Command {
    let mut git = Command::new("git");
    git.current_dir(workspace.root())
        .arg("-c")
        .arg(format!("safe.directory={}", workspace.root().display()));
    git
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_name_an_area_and_fit() {
        let longest = format!("1234567 a: {}", "x".repeat(69));
        for good in ["1234567 ebpf-build: find it", &longest] {
            assert_eq!(judge(good), None, "{good}");
        }
        for bad in [
            format!("{longest}x").as_str(),
            "1234567 Fix it",
            "1234567 Docs: say it",
            "1234567 docs:say it",
            "1234567 docs: ",
            "1234567 docs: say it; test it",
            "1234567 audit, cli: say it",
            "1234567 fixup! docs: say it",
            "1234567",
        ] {
            assert!(judge(bad).is_some(), "{bad}");
        }
    }
}
