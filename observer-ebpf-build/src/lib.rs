//! Builds the observer's eBPF object: finds the toolchain, or says what to
//! install.
//!
//! `observer`'s build script and `cargo xtask` both build by this crate. It
//! installs nothing; `cargo xtask setup` does.

pub mod advice;
pub mod compiler;
pub mod linker;
pub mod object;
pub mod process;

use std::path::Path;

use anyhow::{Result, anyhow};

use compiler::Compiler;
use linker::Linker;

/// What the eBPF object is built with.
#[derive(Debug)]
pub struct Toolchain {
    /// Builds `core` and the programs.
    pub compiler: Compiler,
    /// Links their bitcode.
    pub linker: Linker,
}

impl Toolchain {
    /// Looks for both. What `cargo xtask setup` installed in the checkout comes
    /// first.
    ///
    /// # Errors
    /// What is missing, and the lines that install it by hand.
    pub fn find(checkout: &Path) -> Result<Self> {
        let compiler =
            compiler::find().map_err(|error| anyhow!("{error:#}\n{}", advice::toolchain()))?;
        let linker = linker::find(&linker::tools(checkout), &compiler)
            .map_err(|error| anyhow!("{error:#}\n{}", advice::linker(compiler.llvm)))?;
        Ok(Self { compiler, linker })
    }
}
