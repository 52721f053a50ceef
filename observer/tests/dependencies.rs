//! How many crates come with the engine.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::env;
use std::process::Command;

/// Crates that the library names itself.
const MOST_DIRECT: usize = 16;

/// All that come with it.
const MOST: usize = 75;

fn tree(arguments: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["tree", "--locked", "--edges", "normal"])
        .args(["--prefix", "none", "--format", "{p}"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = String::from_utf8(output.stdout).unwrap();
    let crates = lines.lines().map(|line| line.trim_end_matches(" (*)"));
    let mut crates: BTreeSet<String> = crates.map(ToOwned::to_owned).collect();
    crates.retain(|name| !name.is_empty() && !name.starts_with("observer v"));
    crates
}

#[test]
fn a_library_with_few_dependencies() {
    let direct = tree(&["--depth", "1"]);
    let all = tree(&[]);
    println!("{} direct dependencies, {} in all", direct.len(), all.len());
    assert!(direct.len() <= MOST_DIRECT, "{direct:#?}");
    assert!(all.len() <= MOST, "{all:#?}");
}
