//! Observers with less than root's rights.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::Command;

use tempfile::TempDir;

use crate::attacker::NOBODY;
use crate::observer::{Observer, Remains, Setup};
use crate::observer_binary;

/// With what rights an observer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// All.
    Root,
    /// Those of the user `nobody`, and these capabilities.
    Nobody(&'static [&'static str]),
}

impl Privilege {
    /// `CAP_BPF` and `CAP_PERFMON`: what tier btf needs on a Unix socket.
    pub const BTF: Self = Self::Nobody(&["bpf", "perfmon"]);
    /// `CAP_BPF`: what tier helper needs there.
    pub const HELPER: Self = Self::Nobody(&["bpf"]);
    /// No capability at all.
    pub const NONE: Self = Self::Nobody(&[]);

    /// As tables have it.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Root => "root".into(),
            Self::Nobody([]) => "nobody".into(),
            Self::Nobody(capabilities) => {
                format!("nobody, CAP_{}", capabilities.join(", CAP_").to_uppercase())
            }
        }
    }
}

/// The observer's binary where anybody can execute it.
pub struct Binary(TempDir);

impl Default for Binary {
    fn default() -> Self {
        Self::new()
    }
}

impl Binary {
    /// Copies it to a folder of its own.
    #[must_use]
    pub fn new() -> Self {
        let scratch = tempfile::tempdir().expect("a directory");
        let copy = scratch.path().join("observer");
        fs::copy(observer_binary(), &copy).expect("copies");
        for path in [copy.as_path(), scratch.path()] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("sets");
        }
        Self(scratch)
    }

    /// The observer with these rights; its own arguments are to follow.
    #[must_use]
    pub fn command(&self, privilege: Privilege) -> Command {
        let binary = self.0.path().join("observer");
        let Privilege::Nobody(capabilities) = privilege else {
            return Command::new(binary);
        };
        let mut command = Command::new("setpriv");
        command.args([
            format!("--reuid={NOBODY}"),
            format!("--regid={NOBODY}"),
            "--clear-groups".into(),
        ]);
        if capabilities.is_empty() {
            command.args(["--inh-caps=-all", "--bounding-set=-all"]);
        } else {
            let list = format!("+{}", capabilities.join(",+"));
            command.arg(format!("--inh-caps={list}"));
            command.arg(format!("--ambient-caps={list}"));
        }
        command.arg("--").arg(binary);
        command
    }

    /// Starts `observer run` with these rights and flags.
    ///
    /// # Errors
    /// With what it left behind if it does not get ready.
    pub fn start(&self, privilege: Privilege, flags: &[&str]) -> Result<Observer, Remains> {
        let setup = Setup::in_command(self.command(privilege), 60_000);
        if privilege != Privilege::Root {
            chown(setup.directory(), Some(NOBODY), Some(NOBODY)).expect("root may");
        }
        flags
            .iter()
            .fold(setup, |setup, flag| setup.arg(flag))
            .try_start()
    }
}
