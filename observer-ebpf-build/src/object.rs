//! The build itself: a cargo of its own, with flags of its own.

use std::env;
use std::env::consts::ARCH;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Toolchain;

const PACKAGE: &str = "observer-ebpf";
const TARGET: &str = if cfg!(target_endian = "big") {
    "bpfeb-unknown-none"
} else {
    "bpfel-unknown-none"
};

/// Packages whose sources the object is made of, as folders of the checkout.
pub const SOURCES: [&str; 2] = [PACKAGE, "observer-common"];

/// What cargo sets for a build script, or a user for his own builds, by how the
/// names begin: none of it is about the object.
const NOT_OURS: [&str; 6] = [
    "CARGO_CFG_",
    "CARGO_FEATURE_",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PROFILE_",
    "DEP_",
];

/// Name of the object's file. The one with a debug log is another object.
#[must_use]
pub fn file_name(log: bool) -> &'static str {
    if log {
        "observer-ebpf-log.o"
    } else {
        "observer-ebpf.o"
    }
}

/// One build of the object.
#[derive(Clone, Copy, Debug)]
pub struct Build<'a> {
    /// The folder of the workspace.
    pub checkout: &'a Path,
    /// What it is built with.
    pub toolchain: &'a Toolchain,
    /// Where cargo builds. No other build can use it: the flags differ.
    pub target: &'a Path,
    /// Whether the programs write a debug log.
    pub log: bool,
}

impl Build<'_> {
    /// The cargo to run. It leaves the checkout as it is.
    #[must_use]
    pub fn command(&self) -> Command {
        let Self {
            checkout,
            toolchain: Toolchain { compiler, linker },
            target,
            log,
        } = self;
        let mut cargo = Command::new(&compiler.cargo);
        cargo
            .current_dir(checkout)
            .args(["build", "--package", PACKAGE, "--bins", "--release"])
            .args(["--locked", "--target", TARGET, "-Zbuild-std=core"]);
        if *log {
            cargo.args(["--features", "log"]);
        }
        remove_not_ours(&mut cargo);
        cargo
            .env("CARGO_TARGET_DIR", target)
            .env("CARGO_BUILD_BUILD_DIR", target)
            // Of the programs that run while it builds: only to be written.
            .env("CARGO_PROFILE_RELEASE_BUILD_OVERRIDE_DEBUG", "false")
            .env("CARGO_ENCODED_RUSTFLAGS", rustflags(&linker.path))
            .env("RUSTC", &compiler.rustc)
            // Building core is unstable; this lets a stable rustc do it.
            .env("RUSTC_BOOTSTRAP", "1")
            // Wrappers are made for the developer's usual compiler.
            .env("RUSTC_WRAPPER", "")
            .env_remove("RUSTC_WORKSPACE_WRAPPER");
        cargo
    }

    /// Where the object is after that.
    #[must_use]
    pub fn built(&self) -> PathBuf {
        self.target.join(TARGET).join("release").join(PACKAGE)
    }
}

fn remove_not_ours(cargo: &mut Command) {
    for (name, _) in env::vars_os() {
        let bytes = name.as_encoded_bytes();
        if NOT_OURS
            .iter()
            .any(|prefix| bytes.starts_with(prefix.as_bytes()))
        {
            cargo.env_remove(name);
        }
    }
}

/// aya finds programs and maps by the object's BTF, which is made from the
/// debug information; aya-ebpf asks what machine the object is for.
///
/// rustc's BPF target denies that there are atomic operations beyond load and
/// store, which was so before the third version of the instruction set (Linux
/// 5.12, `BPF_ATOMIC`): the flags say that this is the version in use, and have
/// `core` offer exchange, compare-and-exchange and addition for 64 bits.
fn rustflags(linker: &Path) -> OsString {
    let mut choose_linker = OsString::from("-Clinker=");
    choose_linker.push(linker);
    encoded(&[
        choose_linker,
        "-Clink-arg=--btf".into(),
        "-Cdebuginfo=2".into(),
        "-Ctarget-cpu=v3".into(),
        "--cfg=target_has_atomic".into(),
        "--cfg=target_has_atomic=\"64\"".into(),
        "-Aexplicit_builtin_cfgs_in_flags".into(),
        format!("--cfg=bpf_target_arch=\"{ARCH}\"").into(),
    ])
}

/// The flags as rustc gets them from cargo, each whatever it contains.
fn encoded<const N: usize>(flags: &[OsString; N]) -> OsString {
    flags.join(OsStr::new("\x1f"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rustflags_keep_their_spaces() {
        let flags = encoded(&["-Clinker=/a b".into(), "-g".into()]);
        assert_eq!(flags, "-Clinker=/a b\x1f-g");
    }
}
