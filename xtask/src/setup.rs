//! `cargo xtask setup`: the tools that cargo alone does not bring.

use anyhow::{Result, anyhow};

use crate::compiler::{self, Compiler};
use crate::linker::{self, Linker};
use crate::workspace::{Workspace, from_here};
use crate::{apt, programs, python, say};

/// What the eBPF object is built with.
#[derive(Debug)]
pub(crate) struct Toolchain {
    pub(crate) compiler: Compiler,
    pub(crate) linker: Linker,
}

/// Finds or installs everything, and says what there is.
pub(crate) fn execute(workspace: &Workspace) -> Result<()> {
    let Toolchain { compiler, linker } = toolchain(workspace)?;
    programs::ensure(workspace)?;
    python::ensure(workspace)?;
    let Compiler {
        rustc,
        cargo: _,
        version,
        llvm,
    } = compiler;
    say::good(
        "compiler",
        format_args!("{version}, LLVM {llvm}, {}", rustc.display()),
    );
    let Linker { path, version } = linker;
    say::good(
        "linker",
        format_args!("{version}, {}", from_here(&path).display()),
    );
    let folder = python::folder(workspace);
    say::good(
        "tests",
        format_args!("{}, {}", python::summary(), from_here(&folder).display()),
    );
    Ok(())
}

/// Finds or installs what the eBPF object is built with.
///
/// # Errors
/// What is missing, and the lines that install it by hand.
pub(crate) fn toolchain(workspace: &Workspace) -> Result<Toolchain> {
    let compiler = compiler::find().or_else(|lacking| install_compiler(&lacking))?;
    let linker = linker::find(workspace, &compiler)
        .or_else(|lacking| install_linker(workspace, &compiler, &lacking))?;
    Ok(Toolchain { compiler, linker })
}

fn install_compiler(lacking: &anyhow::Error) -> Result<Compiler> {
    say::fact("setup", format_args!("{lacking:#}"));
    apt::ensure(&compiler::PACKAGES.map(String::from))
        .and_then(|()| compiler::find())
        .map_err(|error| anyhow!("{error:#}\n{}", compiler_by_hand()))
}

fn install_linker(
    workspace: &Workspace,
    compiler: &Compiler,
    lacking: &anyhow::Error,
) -> Result<Linker> {
    say::fact("setup", format_args!("{lacking:#}"));
    linker::install(workspace, compiler)
        .and_then(|()| linker::find(workspace, compiler))
        .map_err(|error| anyhow!("{error:#}\n{}", linker_by_hand(compiler.llvm)))
}

/// All that is missing where the compiler is: the linker is then missing too,
/// as a rule, and needs root as much.
fn compiler_by_hand() -> String {
    let mut packages: Vec<_> = compiler::PACKAGES.map(String::from).into();
    packages.extend(linker::packages(linker::USUAL_LLVM));
    format!(
        "\nThe BPF toolchain is incomplete. With rustup, as yourself:\n    {}\n\
         or on Debian and its children, with apt:\n    {}\n\
         Then: cargo xtask setup",
        compiler::WITH_RUSTUP,
        apt::by_hand(&packages),
    )
}

fn linker_by_hand(llvm: u32) -> String {
    format!(
        "\nThe BPF toolchain lacks bpf-linker. It needs LLVM {llvm} to be built; on Debian and its \
         children:\n    {}\n    {}\n\
         elsewhere set LLVM_PREFIX to where LLVM {llvm} is, or install a release of bpf-linker \
         0.13 on your PATH.\n\
         Then: cargo xtask setup",
        apt::by_hand(&linker::packages(llvm)),
        linker::by_hand(llvm),
    )
}
