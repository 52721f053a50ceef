//! bpf-linker: turns the compiler's bitcode into one BPF object.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result, bail};

use crate::compiler::Compiler;
use crate::process::{self, find_on_path};
use crate::workspace::Workspace;
use crate::{apt, say};

const VERSION: &str = "0.13.0";
const SERIES: &str = "bpf-linker 0.13.";

/// Where no compiler is known yet: that of rustc 1.94 to 1.97.
pub(crate) const USUAL_LLVM: u32 = 22;

/// A linker that reads what the compiler writes.
#[derive(Debug)]
pub(crate) struct Linker {
    pub(crate) path: PathBuf,
    /// As it names itself: `bpf-linker 0.13.0`.
    pub(crate) version: String,
}

/// Ours, else the one on PATH.
///
/// # Errors
/// What is wrong with those that there are.
pub(crate) fn find(workspace: &Workspace, compiler: &Compiler) -> Result<Linker> {
    let ours = workspace.tools().join("bin/bpf-linker");
    let mut unfit = Vec::new();
    for path in [Some(ours), find_on_path("bpf-linker")]
        .into_iter()
        .flatten()
    {
        if !path.is_file() {
            continue;
        }
        match check(&path, compiler) {
            Ok(linker) => return Ok(linker),
            Err(error) => unfit.push(format!("{}: {error:#}", path.display())),
        }
    }
    if unfit.is_empty() {
        bail!("no bpf-linker is installed");
    }
    bail!(
        "no bpf-linker here will do\n      {}",
        unfit.join("\n      ")
    );
}

fn check(path: &Path, compiler: &Compiler) -> Result<Linker> {
    // Also fails where the LLVM it was linked with has been removed.
    let version = process::capture(Command::new(path).arg("--version"))?
        .trim()
        .to_owned();
    if !version.starts_with(SERIES) {
        bail!("it is {version}, and {VERSION} is needed");
    }
    match shared_llvm(path) {
        Some(llvm) if llvm < compiler.llvm => {
            let Compiler {
                rustc,
                llvm: needed,
                ..
            } = compiler;
            bail!(
                "it reads bitcode up to LLVM {llvm}; {} writes {needed}",
                rustc.display()
            )
        }
        _ => Ok(Linker {
            path: path.to_path_buf(),
            version,
        }),
    }
}

/// The major version of the LLVM that the linker loads; `None` where it has
/// LLVM inside, as released binaries do, which then cannot be asked.
fn shared_llvm(linker: &Path) -> Option<u32> {
    parse_llvm(&process::capture(Command::new("ldd").arg(linker)).ok()?)
}

fn parse_llvm(libraries: &str) -> Option<u32> {
    let (_, rest) = libraries.split_once("libLLVM")?;
    let rest = rest.trim_start_matches(|char: char| !char.is_ascii_digit());
    let end = rest
        .find(|char: char| !char.is_ascii_digit())
        .unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

/// Builds bpf-linker into `target/tools`, with the compiler's own LLVM.
///
/// # Errors
/// If that cannot be done from here, or failed.
pub(crate) fn install(workspace: &Workspace, compiler: &Compiler) -> Result<()> {
    let prefix = env::var_os("LLVM_PREFIX");
    if prefix.is_none() {
        apt::ensure(&packages(compiler.llvm))?;
    }
    let build = workspace.tools().join("build");
    say::fact(
        "installing",
        format_args!("bpf-linker {VERSION}, built from source: 1 to 2 minutes"),
    );
    let mut cargo = process::cargo(workspace);
    cargo
        .args(install_args(compiler.llvm))
        .arg("--force")
        .arg("--root")
        .arg(workspace.tools())
        .env(
            "LLVM_PREFIX",
            prefix.unwrap_or_else(|| debian_prefix(compiler.llvm).into()),
        )
        .env("CARGO_TARGET_DIR", &build)
        // Its release profile asks for debug information: much to write.
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false");
    process::run(&mut cargo)?;
    fs::remove_dir_all(&build).with_context(|| format!("cannot remove {}", build.display()))
}

/// The lines that do by hand what [`install`] does.
pub(crate) fn by_hand(llvm: u32) -> String {
    format!(
        "LLVM_PREFIX={} cargo {} --root target/tools",
        debian_prefix(llvm),
        install_args(llvm).join(" ")
    )
}

/// What LLVM and its libraries need to be linked with on Debian.
pub(crate) fn packages(llvm: u32) -> Vec<String> {
    let mut packages = vec![format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev")];
    packages.extend(["zlib1g-dev", "libzstd-dev", "g++"].map(String::from));
    packages
}

fn debian_prefix(llvm: u32) -> String {
    format!("/usr/lib/llvm-{llvm}")
}

fn install_args(llvm: u32) -> Vec<String> {
    let feature = format!("llvm-{llvm}");
    [
        "install",
        "bpf-linker",
        "--version",
        VERSION,
        "--locked",
        "--no-default-features",
        "--features",
    ]
    .map(String::from)
    .into_iter()
    .chain([feature])
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_is_read_from_the_libraries() {
        let debian = "\tlibLLVM.so.22.1 => /usr/lib/llvm-22/lib/libLLVM.so.22.1 (0x7f)\n";
        assert_eq!(parse_llvm(debian), Some(22));
        assert_eq!(parse_llvm("libLLVM-21.so => not found"), Some(21));
        assert_eq!(parse_llvm("libc.so.6 => /lib/libc.so.6"), None);
    }
}
