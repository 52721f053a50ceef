//! Starting other programs.

use std::borrow::Cow;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// The cargo that runs this program.
#[must_use]
pub fn cargo_path() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// What a command prints on stdout. Its stderr is in the error if it fails.
///
/// # Errors
/// If it cannot be started, fails, or does not print UTF-8.
pub fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| cannot_start(command))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} failed ({}): {}",
            program(command),
            output.status,
            stderr.trim()
        );
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("{} did not print UTF-8", program(command)))
}

/// What to say where a command cannot be started.
#[must_use]
pub fn cannot_start(command: &Command) -> String {
    format!("cannot start {}", program(command))
}

/// `cargo` for wherever cargo is.
#[must_use]
pub fn program(command: &Command) -> Cow<'_, str> {
    let program = Path::new(command.get_program());
    program
        .file_name()
        .unwrap_or(program.as_os_str())
        .to_string_lossy()
}

/// The first program of this name on PATH.
#[must_use]
pub fn find_on_path(name: &str) -> Option<PathBuf> {
    all_on_path(name).into_iter().next()
}

/// All programs of this name on PATH, in its order.
#[must_use]
pub fn all_on_path(name: &str) -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .filter(|program| program.is_file())
        .collect()
}
