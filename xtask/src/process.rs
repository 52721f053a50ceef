//! Starting other programs.

use std::borrow::Cow;
use std::env;
use std::ffi::{OsStr, OsString};
use std::iter::once;
use std::path::{Path, PathBuf};
use std::process::{Command, CommandArgs, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::say;
use crate::workspace::Workspace;

/// The cargo that runs this program, working on this checkout.
pub(crate) fn cargo(workspace: &Workspace) -> Command {
    let mut cargo = Command::new(cargo_path());
    cargo
        .current_dir(workspace.root())
        .env("CARGO_TARGET_DIR", workspace.target())
        // Binaries belong in target/release, not in target/TRIPLE/release.
        .env_remove("CARGO_BUILD_TARGET");
    cargo
}

pub(crate) fn cargo_path() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// Shows the command, runs it, and fails if it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    say::fact(
        "running",
        words_line(OsStr::new(&*program(command)), command.get_args()),
    );
    let status = command.status().with_context(|| cannot_start(command))?;
    if !status.success() {
        bail!("{} failed ({status})", program(command));
    }
    Ok(())
}

/// What a command prints on stdout. Its stderr is in the error if it fails.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
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

pub(crate) fn cannot_start(command: &Command) -> String {
    format!("cannot start {}", program(command))
}

/// `cargo` for wherever cargo is.
fn program(command: &Command) -> Cow<'_, str> {
    let program = Path::new(command.get_program());
    program
        .file_name()
        .unwrap_or(program.as_os_str())
        .to_string_lossy()
}

/// The first program of this name on PATH.
pub(crate) fn find_on_path(name: &str) -> Option<PathBuf> {
    all_on_path(name).into_iter().next()
}

/// All programs of this name on PATH, in its order.
pub(crate) fn all_on_path(name: &str) -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .filter(|program| program.is_file())
        .collect()
}

/// The command as one would type it, without its environment.
pub(crate) fn shell_line(command: &Command) -> String {
    words_line(command.get_program(), command.get_args())
}

fn words_line(program: &OsStr, args: CommandArgs<'_>) -> String {
    once(program)
        .chain(args)
        .map(quoted)
        .collect::<Vec<_>>()
        .join(" ")
}

fn quoted(word: &OsStr) -> Cow<'_, str> {
    let word = word.to_string_lossy();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:,+@%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word;
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}

/// The flags as rustc gets them from cargo, each whatever it contains.
pub(crate) fn encoded_rustflags<const N: usize>(flags: &[OsString; N]) -> OsString {
    flags.join(OsStr::new("\x1f"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_lines_can_be_pasted() {
        let mut command = Command::new("/bin/echo");
        command.args(["--flag=1", "two words", "it's", ""]);
        assert_eq!(
            shell_line(&command),
            r"/bin/echo --flag=1 'two words' 'it'\''s' ''"
        );
    }

    #[test]
    fn rustflags_keep_their_spaces() {
        let flags = encoded_rustflags(&["-Clinker=/a b".into(), "-g".into()]);
        assert_eq!(flags, "-Clinker=/a b\x1f-g");
    }
}
