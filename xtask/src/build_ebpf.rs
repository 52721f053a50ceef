//! `cargo xtask build-ebpf`: the object that the observer loads.

use std::env::consts::ARCH;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::setup::{self, Toolchain};
use crate::workspace::{Workspace, from_here};
use crate::{process, say};

const PACKAGE: &str = "observer-ebpf";
const TARGET: &str = if cfg!(target_endian = "big") {
    "bpfeb-unknown-none"
} else {
    "bpfel-unknown-none"
};

/// `cargo xtask build-ebpf`
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// With a debug log from inside the programs; a second object beside the
    /// usual one, for an observer with the feature `ebpf-log`
    #[arg(long)]
    pub(crate) log: bool,

    /// Fail on warnings
    #[arg(long)]
    deny_warnings: bool,
}

impl Args {
    pub(crate) fn with_log(log: bool) -> Self {
        Self {
            log,
            deny_warnings: false,
        }
    }
}

/// Builds the object into `target/bpf`, which is left untouched if nothing
/// has changed, so that nothing that embeds it is built again.
pub(crate) fn execute(workspace: &Workspace, args: Args) -> Result<()> {
    let toolchain = setup::toolchain(workspace)?;
    // Of its own, since the flags differ from those of all other builds.
    let target = workspace.target().join("ebpf");
    let mut cargo = cargo(workspace, &toolchain, &target);
    add_args(&mut cargo, args);
    process::run(&mut cargo).with_context(|| {
        let Toolchain { compiler, linker } = &toolchain;
        format!(
            "cannot build the eBPF object with {} and {}",
            compiler.version,
            linker.path.display()
        )
    })?;
    let built = target.join(TARGET).join("release").join(PACKAGE);
    publish(&built, &workspace.ebpf_object(args.log))
}

fn add_args(cargo: &mut Command, args: Args) {
    let Args { log, deny_warnings } = args;
    if log {
        cargo.args(["--features", "log"]);
    }
    if deny_warnings {
        // Not through rustc's flags, which would build core again.
        cargo.args(["-Zwarnings", "--config", "build.warnings='deny'"]);
    }
}

fn cargo(workspace: &Workspace, toolchain: &Toolchain, target: &Path) -> Command {
    let Toolchain { compiler, linker } = toolchain;
    let mut cargo = Command::new(&compiler.cargo);
    cargo
        .current_dir(workspace.root())
        .args(["build", "--package", PACKAGE, "--bins", "--release"])
        .args(["--target", TARGET, "-Zbuild-std=core"])
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(&linker.path))
        .env("RUSTC", &compiler.rustc)
        // Building core is unstable; this lets a stable rustc do it.
        .env("RUSTC_BOOTSTRAP", "1")
        // Wrappers are made for the developer's usual compiler.
        .env("RUSTC_WRAPPER", "")
        .env_remove("RUSTC_WORKSPACE_WRAPPER");
    cargo
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
    process::encoded_rustflags(&[
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

fn publish(built: &Path, object: &Path) -> Result<()> {
    let bytes = fs::read(built).with_context(|| format!("cannot read {}", built.display()))?;
    let news = if is_same(object, &bytes)? {
        "unchanged"
    } else {
        replace(object, &bytes).with_context(|| format!("cannot write {}", object.display()))?;
        "new"
    };
    let kib = bytes.len().div_ceil(1024);
    say::good(
        "object",
        format_args!("{}, {kib} KiB, {news}", from_here(object).display()),
    );
    Ok(())
}

fn is_same(object: &Path, bytes: &[u8]) -> Result<bool> {
    match fs::read(object) {
        Ok(old) => Ok(old == bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", object.display())),
    }
}

/// Whoever reads it meanwhile sees the old object or the new one.
fn replace(object: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = object.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = PathBuf::from(format!("{}.new", object.display()));
    fs::write(&new, bytes)?;
    fs::rename(&new, object)
}
