//! bpf-linker, built from source into `target/tools`.

use std::env;
use std::fs;

use anyhow::{Context as _, Result};
use observer_ebpf_build::compiler::Compiler;
use observer_ebpf_build::linker;

use crate::workspace::Workspace;
use crate::{apt, process, say};

/// Builds bpf-linker with the compiler's own LLVM.
///
/// # Errors
/// If that cannot be done from here, or failed.
pub(crate) fn install(workspace: &Workspace, compiler: &Compiler) -> Result<()> {
    let prefix = env::var_os("LLVM_PREFIX");
    if prefix.is_none() {
        apt::ensure(&linker::packages(compiler.llvm))?;
    }
    let build = workspace.tools().join("build");
    say::fact(
        "installing",
        format_args!(
            "bpf-linker {}, built from source: 1 to 2 minutes",
            linker::VERSION
        ),
    );
    let mut cargo = process::cargo(workspace);
    cargo
        .args(linker::install_args(compiler.llvm))
        .arg("--force")
        .arg("--root")
        .arg(workspace.tools())
        .env(
            "LLVM_PREFIX",
            prefix.unwrap_or_else(|| linker::debian_prefix(compiler.llvm).into()),
        )
        .env("CARGO_TARGET_DIR", &build)
        // Its release profile asks for debug information: much to write.
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false");
    process::run(&mut cargo)?;
    fs::remove_dir_all(&build).with_context(|| format!("cannot remove {}", build.display()))
}
