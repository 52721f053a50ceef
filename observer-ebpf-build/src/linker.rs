//! bpf-linker: turns the compiler's bitcode into one BPF object.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::compiler::Compiler;
use crate::process;

const NAME: &str = "bpf-linker";

/// The release that is known to work.
pub const VERSION: &str = "0.13.0";
const SERIES: &str = "bpf-linker 0.13.";

/// Where no compiler is known yet: that of rustc 1.94 to 1.97.
pub const USUAL_LLVM: u32 = 22;

/// A linker that reads what the compiler writes.
#[derive(Debug)]
pub struct Linker {
    /// Where it is.
    pub path: PathBuf,
    /// As it names itself: `bpf-linker 0.13.0`.
    pub version: String,
}

/// The folder of a checkout that `cargo xtask setup` installs tools into.
#[must_use]
pub fn tools(checkout: &Path) -> PathBuf {
    checkout.join("target/tools")
}

/// The first linker that will do: of the tools, of what `cargo install`
/// installed, of those on PATH.
///
/// # Errors
/// What is wrong with those that there are.
pub fn find(tools: &Path, compiler: &Compiler) -> Result<Linker> {
    let mut unfit = Vec::new();
    for path in candidates(tools) {
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

fn candidates(tools: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = [Some(tools.to_owned()), install_root()]
        .into_iter()
        .flatten()
        .map(|root| root.join("bin").join(NAME))
        .filter(|path| path.is_file())
        .collect();
    paths.extend(process::all_on_path(NAME));
    paths.dedup();
    paths
}

/// Where `cargo install` installs to, settings in cargo's files aside.
fn install_root() -> Option<PathBuf> {
    ["CARGO_INSTALL_ROOT", "CARGO_HOME"]
        .into_iter()
        .find_map(env::var_os)
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".cargo")))
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

/// The line that installs it.
#[must_use]
pub fn by_hand(llvm: u32) -> String {
    format!(
        "LLVM_PREFIX={} cargo {}",
        debian_prefix(llvm),
        install_args(llvm).join(" ")
    )
}

/// What LLVM and its libraries need to be linked with on Debian.
#[must_use]
pub fn packages(llvm: u32) -> Vec<String> {
    let mut packages = vec![format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev")];
    packages.extend(["zlib1g-dev", "libzstd-dev", "g++"].map(String::from));
    packages
}

/// Where Debian has this LLVM.
#[must_use]
pub fn debian_prefix(llvm: u32) -> String {
    format!("/usr/lib/llvm-{llvm}")
}

/// What cargo is to do, to build it from source.
#[must_use]
pub fn install_args(llvm: u32) -> Vec<String> {
    let feature = format!("llvm-{llvm}");
    [
        "install",
        NAME,
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
