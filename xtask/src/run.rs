//! `cargo xtask run`: from a checkout to a running observer.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::workspace::{Workspace, from_here};
use crate::{build_observer, process, root, say};

const THRESHOLD_MS: &str = "5000";

/// The control socket beside a socket of our own choosing; its name is not
/// longer.
const CONTROL: &str = "control.sock";

/// A socket's path and the byte after it fit in `sun_path` (unix(7)).
const LONGEST_SOCKET: usize = 107;

/// `cargo xtask run`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print what the eBPF programs log
    #[arg(long)]
    log: bool,

    /// Flags of `observer run`, after `--`; a socket and a threshold are
    /// chosen unless they are among them
    #[arg(last = true, value_name = "FLAGS")]
    flags: Vec<OsString>,
}

/// Builds as whoever we are, then becomes the observer, as root.
pub(crate) fn execute(workspace: &Workspace, args: &Args) -> Result<()> {
    build_observer::build(workspace, args.log)?;
    let socket = match value_of(&args.flags, "--socket") {
        Some(socket) => PathBuf::from(socket),
        None => own_socket(workspace)?,
    };
    let mut observer = observer(workspace, &args.flags, &socket);
    say::fact("observer", process::shell_line(&observer));
    say::fact("first beat", first_beat(workspace, &socket));
    if let Some(control) = value_of_in(&observer, "--control") {
        say::fact("live view", live_view(workspace, control));
    }
    if !root::is_root() {
        observer = root::command(observer)?;
        say::fact("as root", process::shell_line(&observer));
    }
    // Only returns if it fails. Signals then go to the observer itself.
    let error = observer.exec();
    Err(error).with_context(|| process::cannot_start(&observer))
}

fn observer(workspace: &Workspace, flags: &[OsString], socket: &Path) -> Command {
    let mut observer = Command::new(workspace.observer());
    observer.arg("run");
    if value_of(flags, "--socket").is_none() {
        observer.arg("--socket").arg(socket).args(access(flags));
        if value_of(flags, "--control").is_none() {
            observer
                .arg("--control")
                .arg(socket.with_file_name(CONTROL));
        }
    }
    if value_of(flags, "--threshold-ms").is_none() {
        observer.args(["--threshold-ms", THRESHOLD_MS]);
    }
    observer.args(flags);
    observer
}

/// Lets the developer beat at an observer that runs as root.
fn access(flags: &[OsString]) -> Vec<String> {
    let chosen = ["--socket-mode", "--socket-group"]
        .iter()
        .any(|flag| value_of(flags, flag).is_some());
    if root::is_root() || chosen {
        return Vec::new();
    }
    let group = rustix::process::getegid().to_string();
    ["--socket-mode", "0660", "--socket-group", &group]
        .map(String::from)
        .into()
}

/// Under `target/`, in a folder of its own. Whole, like all paths here, so that
/// what is printed works in a terminal that stands elsewhere; in a checkout that
/// is too deep for that, as seen from here.
fn own_socket(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target().join("run");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let whole = folder.join("observer.sock");
    let fits = |path: &PathBuf| path.as_os_str().as_bytes().len() <= LONGEST_SOCKET;
    let socket = Some(whole.clone()).filter(fits);
    let socket = socket.unwrap_or_else(|| from_here(&whole));
    if !fits(&socket) {
        bail!(
            "{} is too long for a socket ({LONGEST_SOCKET} bytes at most); \
             start from {}, or choose a path: cargo xtask run -- --socket PATH",
            socket.display(),
            workspace.root().display()
        );
    }
    Ok(socket)
}

fn first_beat(workspace: &Workspace, socket: &Path) -> String {
    let mut beat = Command::new(workspace.observer());
    beat.args(["beat", "--socket"])
        .arg(socket)
        .args(["--interval-ms", "1000"]);
    process::shell_line(&beat)
}

/// To be looked at by whoever the observer runs as: root.
fn live_view(workspace: &Workspace, control: &OsStr) -> String {
    let mut top = Command::new(workspace.observer());
    top.args(["top", "--control"]).arg(control);
    let sudo = if root::is_root() { "" } else { "sudo " };
    format!("{sudo}{}", process::shell_line(&top))
}

/// The value of a flag of a command's.
fn value_of_in<'a>(command: &'a Command, flag: &str) -> Option<&'a OsStr> {
    let mut words = command.get_args();
    words.find(|word| *word == flag)?;
    words.next()
}

/// The value of a flag, written `--flag VALUE` or `--flag=VALUE`. A flag that
/// lacks its value has the empty one: the observer will complain.
fn value_of<'a>(flags: &'a [OsString], flag: &str) -> Option<&'a OsStr> {
    let mut flags = flags.iter();
    while let Some(word) = flags.next() {
        if word == flag {
            return Some(flags.next().map_or(OsStr::new(""), OsString::as_os_str));
        }
        let value = word.as_bytes().strip_prefix(flag.as_bytes());
        if let Some(value) = value.and_then(|rest| rest.strip_prefix(b"=")) {
            return Some(OsStr::from_bytes(value));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_found_in_both_forms() {
        let flags = ["--json", "--socket=/a", "--threshold-ms", "7", "--udp"].map(OsString::from);
        assert_eq!(value_of(&flags, "--socket"), Some(OsStr::new("/a")));
        assert_eq!(value_of(&flags, "--threshold-ms"), Some(OsStr::new("7")));
        assert_eq!(value_of(&flags, "--udp"), Some(OsStr::new("")));
        assert_eq!(value_of(&flags, "--socket-mode"), None);
    }
}
