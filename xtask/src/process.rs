//! Starting other programs.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::iter::once;
use std::process::{Command, CommandArgs};

use anyhow::{Context as _, Result, bail};
pub(crate) use observer_ebpf_build::process::{cannot_start, capture, find_on_path};
use observer_ebpf_build::process::{cargo_path, program};

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
}
