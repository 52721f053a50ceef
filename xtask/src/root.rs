//! Loading eBPF programs needs privilege; building must not have it.

use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{find_on_path, shell_line};

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether root's rights can be had, now or through sudo.
pub(crate) fn is_within_reach() -> bool {
    is_root() || find_on_path("sudo").is_some()
}

/// The command as root runs it: as it is, or through sudo.
///
/// # Errors
/// Without sudo: the message is the command to run as root.
pub(crate) fn command(command: Command) -> Result<Command> {
    if is_root() {
        return Ok(command);
    }
    let Some(sudo) = find_on_path("sudo") else {
        bail!(
            "this needs root (to load eBPF programs), and there is no sudo here; \
             run as root:\n    {}",
            shell_line(&command)
        );
    };
    let mut elevated = Command::new(sudo);
    elevated
        .arg("--")
        .arg(command.get_program())
        .args(command.get_args());
    Ok(elevated)
}
