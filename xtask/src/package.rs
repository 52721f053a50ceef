//! `cargo xtask package`: the library as packages whose users need no BPF
//! toolchain.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use observer_ebpf_build::object;

use crate::workspace::{Workspace, from_here};
use crate::{build_ebpf, process, say};

/// Each with those that it needs. They are on no registry, and cargo looks for
/// packages that must not be published (`publish = false`) nowhere else: they
/// are patched in.
const PACKAGES: [(&str, &[&str]); 4] = [
    ("observer-ebpf-build", &[]),
    ("observer-common", &[]),
    ("observer-events", &["observer-common"]),
    (
        "observer",
        &["observer-ebpf-build", "observer-common", "observer-events"],
    ),
];

/// That of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `cargo xtask package`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Passed on to `cargo package`, as `--allow-dirty`
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

/// Builds both objects, and packages into `target/package`. Cargo builds each
/// package from what is in it.
pub(crate) fn execute(workspace: &Workspace, args: &Args) -> Result<()> {
    let _objects = Objects::place(workspace)?;
    for (package, needs) in PACKAGES {
        process::run(cargo(workspace, package, needs).args(&args.args))?;
    }
    let packages = PACKAGES.map(|(package, _)| format!("{package}-{VERSION}.crate"));
    say::good(
        "packages",
        format_args!(
            "{}: {}",
            from_here(&folder(workspace)).display(),
            packages.join(", ")
        ),
    );
    Ok(())
}

fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target().join("package")
}

fn cargo(workspace: &Workspace, package: &str, needs: &[&str]) -> Command {
    let mut cargo = process::cargo(workspace);
    cargo.args(["package", "--locked", "--package", package]);
    for needed in needs {
        let sources = workspace.root().join(needed);
        let sources = sources.to_string_lossy();
        cargo.arg("--config");
        cargo.arg(format!("patch.crates-io.{needed}.path={sources:?}"));
    }
    cargo
}

/// The objects beside the library's manifest, which names them. They are
/// taken away at the end: a package made later must not carry old ones.
struct Objects(Vec<PathBuf>);

impl Objects {
    fn place(workspace: &Workspace) -> Result<Self> {
        let mut objects = Self(Vec::new());
        for log in [false, true] {
            build_ebpf::execute(workspace, build_ebpf::Args::with_log(log))?;
            let place = workspace
                .root()
                .join("observer")
                .join(object::file_name(log));
            objects.0.push(place.clone());
            fs::copy(workspace.ebpf_object(log), &place)
                .with_context(|| format!("cannot write {}", place.display()))?;
        }
        Ok(objects)
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        for object in &self.0 {
            if let Err(error) = fs::remove_file(object) {
                say::bad(
                    "warning",
                    format_args!("cannot remove {}: {error}", object.display()),
                );
            }
        }
    }
}
