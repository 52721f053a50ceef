//! A rustc that can build `core` for the BPF target.
//!
//! No ready-made `core` exists for `bpfel-unknown-none`, so cargo builds it
//! (`-Z build-std=core`) from sources that a nightly toolchain may have as
//! its component rust-src, and Debian as the package rust-web-src.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::process;

/// Debian's name for a rustc newer than that of its release, for browsers.
pub const PACKAGES: [&str; 4] = ["rustc-web", "rust-web-src", "gcc", "libc6-dev"];

/// What rustup users do instead.
pub const WITH_RUSTUP: &str = "rustup toolchain install nightly --component rust-src";

/// LLVM releases that our release of bpf-linker can be built with.
pub const LLVM: RangeInclusive<u32> = 21..=23;

/// As `rust-version` in the manifest.
const OLDEST: (u32, u32) = (1, 95);

/// A compiler and the cargo to drive it.
#[derive(Debug)]
pub struct Compiler {
    /// The compiler itself, and no proxy of rustup's.
    pub rustc: PathBuf,
    /// Its cargo, or the one that runs this program.
    pub cargo: PathBuf,
    /// As rustc names itself: `rustc 1.96.0 (…)`.
    pub version: String,
    /// The major version of its LLVM, whose bitcode the linker must read.
    pub llvm: u32,
}

/// The first compiler that will do.
///
/// # Errors
/// A line for each that was looked at, and what it lacks.
pub fn find() -> Result<Compiler> {
    let mut lacking = Vec::new();
    for candidate in candidates() {
        match candidate.check() {
            Ok(compiler) => return Ok(compiler),
            Err(error) => lacking.push(format!("{}: {error:#}", candidate.rustc.display())),
        }
    }
    if lacking.is_empty() {
        bail!("no rustc with the sources of core was found");
    }
    bail!(
        "no rustc here can build core for BPF\n      {}",
        lacking.join("\n      ")
    );
}

/// A compiler before it is known to be fit.
struct Candidate {
    rustc: PathBuf,
    cargo: PathBuf,
}

/// Nightly toolchains of rustup come first, each with its own cargo; then
/// every rustc on PATH.
fn candidates() -> Vec<Candidate> {
    let nightlies = nightly_toolchains().into_iter().map(|toolchain| Candidate {
        rustc: toolchain.join("bin/rustc"),
        cargo: toolchain.join("bin/cargo"),
    });
    let others = process::all_on_path("rustc")
        .into_iter()
        .filter_map(behind_rustup);
    let mut seen = Vec::new();
    nightlies
        .chain(others.map(|rustc| Candidate {
            rustc,
            cargo: process::cargo_path(),
        }))
        .filter(|candidate| {
            let real = fs::canonicalize(&candidate.rustc).ok();
            let new = real.is_some() && !seen.contains(&real);
            seen.push(real);
            new
        })
        .collect()
}

/// Read from disk: asking rustup might make it download a toolchain.
fn nightly_toolchains() -> Vec<PathBuf> {
    let home = env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".rustup")));
    let entries = home.and_then(|home| fs::read_dir(home.join("toolchains")).ok());
    let mut toolchains: Vec<_> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(is_nightly))
        .collect();
    // The undated one, `nightly-x86_64…`, before `nightly-2026-01-01-x86_64…`.
    toolchains.sort_unstable_by(|a, b| b.cmp(a));
    toolchains
}

fn is_nightly(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"nightly")
}

/// A rustc on PATH may be rustup's proxy; the real one is in its sysroot.
fn behind_rustup(rustc: PathBuf) -> Option<PathBuf> {
    let real = sysroot(&rustc).ok()?.join("bin/rustc");
    Some(if real.is_file() { real } else { rustc })
}

fn sysroot(rustc: &Path) -> Result<PathBuf> {
    let mut command = Command::new(rustc);
    command
        .args(["--print", "sysroot"])
        .env("RUSTUP_AUTO_INSTALL", "0");
    Ok(PathBuf::from(process::capture(&mut command)?.trim_end()))
}

impl Candidate {
    fn check(&self) -> Result<Compiler> {
        let Self { rustc, cargo } = self;
        let library = sysroot(rustc)?.join("lib/rustlib/src/rust/library");
        if !library.join("core/Cargo.toml").is_file() || !library.join("Cargo.lock").is_file() {
            bail!("no sources of core under {}", library.display());
        }
        let about = process::capture(Command::new(rustc).arg("-vV"))?;
        let release = field(&about, "release: ").context("rustc -vV names no release")?;
        if release < OLDEST {
            bail!("Rust {}.{} or later is needed", OLDEST.0, OLDEST.1);
        }
        let (llvm, _) = field(&about, "LLVM version: ").context("rustc -vV names no LLVM")?;
        if !LLVM.contains(&llvm) {
            bail!("no bpf-linker for its LLVM {llvm} is known here");
        }
        let version = about.lines().next().unwrap_or_default().to_owned();
        Ok(Compiler {
            rustc: rustc.clone(),
            cargo: cargo.clone(),
            version,
            llvm,
        })
    }
}

/// The first two numbers of a version in the output of `rustc -vV`.
fn field(about: &str, label: &str) -> Option<(u32, u32)> {
    let version = about.lines().find_map(|line| line.strip_prefix(label))?;
    let mut numbers = version.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let about = "rustc 1.97.0-nightly\nrelease: 1.97.0-nightly\nLLVM version: 22.1.8\n";
        assert_eq!(field(about, "release: "), Some((1, 97)));
        assert_eq!(field(about, "LLVM version: "), Some((22, 1)));
        assert_eq!(field(about, "host: "), None);
        assert_eq!(field("release: unknown", "release: "), None);
    }
}
