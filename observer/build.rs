//! Sees to the eBPF object that is built in: an observer without it cannot
//! attest. Writes nowhere but to `OUT_DIR`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Error, Result, anyhow, bail};
use observer_ebpf_build::Toolchain;
use observer_ebpf_build::object::{self, Build, SOURCES};

/// Names the object to build in. `none`: no object is to be built.
const OBJECT: &str = "OBSERVER_EBPF_OBJECT";

/// What installs a toolchain.
const SETUP: &str = "Where you depend on a checkout of your own by its path, `cargo xtask setup` \
                     there installs all of it, as root.";

/// What to do where no object can be had.
const OTHERWISE: &str = "Or set OBSERVER_EBPF_OBJECT to an object that `cargo xtask build-ebpf` \
                         built elsewhere, or compile an observer that cannot attest, with the \
                         feature `no-object`.";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(ebpf_object)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={OBJECT}");
    match object() {
        Ok(Some(object)) => embed(&object),
        Ok(None) => {}
        Err(error) => fail(&error),
    }
}

fn embed(object: &Path) {
    println!("cargo::rustc-cfg=ebpf_object");
    println!("cargo::rustc-env={OBJECT}_PATH={}", object.display());
}

fn fail(error: &Error) {
    for line in format!("{error:#}\n{OTHERWISE}").lines() {
        println!("cargo::error={line}");
    }
}

/// The object; `None` where it is not wanted.
fn object() -> Result<Option<PathBuf>> {
    if is_on("NO_OBJECT") {
        return Ok(None);
    }
    let named = env::var_os(OBJECT).filter(|object| !object.is_empty());
    let is_none = named.as_ref().is_some_and(|object| object == "none");
    match (named, checkout()?) {
        (Some(object), _) if !is_none => named_object(&object).map(Some),
        (_, None) => carried_object().map(Some),
        (Some(_none), Some(_)) => Ok(None),
        (None, Some(checkout)) => build(&checkout).map(Some),
    }
}

fn is_on(feature: &str) -> bool {
    env::var_os(format!("CARGO_FEATURE_{feature}")).is_some()
}

fn file_name() -> &'static str {
    object::file_name(is_on("EBPF_LOG"))
}

/// The folder of the workspace, where this package has not been taken out of
/// it by `cargo package`.
fn checkout() -> Result<Option<PathBuf>> {
    let package = package()?;
    let checkout = package.parent().map(Path::to_owned);
    Ok(checkout.filter(|folder| {
        SOURCES
            .iter()
            .all(|sources| folder.join(sources).join("Cargo.toml").is_file())
    }))
}

fn package() -> Result<PathBuf> {
    variable("CARGO_MANIFEST_DIR").map(PathBuf::from)
}

fn variable(name: &str) -> Result<OsString> {
    env::var_os(name).with_context(|| format!("cargo does not say {name}"))
}

fn named_object(object: &OsString) -> Result<PathBuf> {
    let object = Path::new(object);
    let object =
        fs::canonicalize(object).with_context(|| format!("{OBJECT}: {}", object.display()))?;
    watch(&object);
    Ok(object)
}

fn carried_object() -> Result<PathBuf> {
    let object = package()?.join(file_name());
    watch(&object);
    if !object.is_file() {
        bail!(
            "this package carries no eBPF object {}: in a checkout of observer, \
             `cargo xtask package` makes packages that do.",
            file_name()
        );
    }
    Ok(object)
}

fn build(checkout: &Path) -> Result<PathBuf> {
    for sources in ["Cargo.toml", "Cargo.lock"].iter().chain(&SOURCES) {
        watch(&checkout.join(sources));
    }
    let toolchain = Toolchain::find(checkout).map_err(|error| anyhow!("{error:#}\n{SETUP}"))?;
    let out = PathBuf::from(variable("OUT_DIR")?);
    let build = Build {
        checkout,
        toolchain: &toolchain,
        target: &out.join("target"),
        log: is_on("EBPF_LOG"),
    };
    let status = build
        .command()
        .stdin(Stdio::null())
        // Cargo reads what a build script prints there.
        .stdout(Stdio::null())
        .status()
        .context("cannot start cargo for the eBPF object")?;
    if !status.success() {
        return Err(cannot_build(&toolchain));
    }
    Ok(build.built())
}

fn cannot_build(toolchain: &Toolchain) -> Error {
    let Toolchain { compiler, linker } = toolchain;
    anyhow!(
        "cannot build the eBPF object with {}, {}, and {}, {}; what they said is below.",
        compiler.version,
        compiler.rustc.display(),
        linker.version,
        linker.path.display()
    )
}

fn watch(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}
