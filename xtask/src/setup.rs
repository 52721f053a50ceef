//! `cargo xtask setup`: the tools that cargo alone does not bring.

use anyhow::{Error, Result, anyhow};
use observer_ebpf_build::compiler::{self, Compiler};
use observer_ebpf_build::linker::{self, Linker};
use observer_ebpf_build::{Toolchain, advice};

use crate::workspace::{Workspace, from_here};
use crate::{apt, programs, python, say};

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
    let linker = linker::find(&workspace.tools(), &compiler)
        .or_else(|lacking| install_linker(workspace, &compiler, &lacking))?;
    Ok(Toolchain { compiler, linker })
}

fn install_compiler(lacking: &Error) -> Result<Compiler> {
    say::fact("setup", format_args!("{lacking:#}"));
    apt::ensure(&compiler::PACKAGES.map(String::from))
        .and_then(|()| compiler::find())
        .map_err(|error| by_hand(&error, &advice::toolchain()))
}

fn install_linker(workspace: &Workspace, compiler: &Compiler, lacking: &Error) -> Result<Linker> {
    say::fact("setup", format_args!("{lacking:#}"));
    crate::linker::install(workspace, compiler)
        .and_then(|()| linker::find(&workspace.tools(), compiler))
        .map_err(|error| by_hand(&error, &advice::linker(compiler.llvm)))
}

fn by_hand(error: &Error, advice: &str) -> Error {
    anyhow!("{error:#}\n{advice}\nThen: cargo xtask setup")
}
