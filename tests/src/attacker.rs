//! Attackers: processes of a user without any rights on this host, in
//! namespaces of their own where they need some.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// The user that attackers are, and the least privileged observer.
pub const NOBODY: u32 = 65534;

/// A helper binary where anybody can execute it.
pub struct Attacker {
    folder: TempDir,
    name: PathBuf,
}

impl Attacker {
    /// Copies a helper binary of this package, named by
    /// `env!("CARGO_BIN_EXE_<name>")`, to a folder of its own.
    #[must_use]
    pub fn new(binary: impl AsRef<Path>) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let name: PathBuf = binary.as_ref().file_name().expect("a file").into();
        let attacker = Self { folder, name };
        fs::copy(binary, attacker.path()).expect("copies");
        for path in [attacker.path().as_path(), attacker.folder.path()] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("sets");
        }
        attacker
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }

    /// It, as the user `nobody` without capabilities.
    #[must_use]
    pub fn unprivileged(&self) -> Command {
        nobody(self.path())
    }

    /// It, as `nobody`, who is root in a user namespace and a network namespace
    /// of its own. `network` is a shell command that sets up the latter.
    #[must_use]
    pub fn in_own_network(&self, network: &str) -> Command {
        let mut command = nobody("unshare");
        command.args(["--user", "--map-root-user", "--net", "--", "sh", "-c"]);
        command.arg(format!("{network} && exec \"$@\""));
        command.arg("sh").arg(self.path());
        command
    }
}

/// A program that `nobody` runs, without capabilities.
fn nobody(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args([
        format!("--reuid={NOBODY}"),
        format!("--regid={NOBODY}"),
        "--clear-groups".into(),
        "--inh-caps=-all".into(),
    ]);
    command.arg("--").arg(program);
    command
}
