//! Finds the eBPF object to build in. Builds nothing: without an object, the
//! observer still compiles, and says at run time what it lacks.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Names an object to build in instead of the one under `target/bpf`.
const OBJECT: &str = "OBSERVER_EBPF_OBJECT";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(ebpf_object)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={OBJECT}");
    if let Some(object) = find_object() {
        println!("cargo::rerun-if-changed={}", object.display());
        println!("cargo::rustc-cfg=ebpf_object");
        println!("cargo::rustc-env={OBJECT}_PATH={}", object.display());
    }
}

/// Where an object is missing, that it appears is what to watch for.
fn find_object() -> Option<PathBuf> {
    if let Some(object) = env::var_os(OBJECT).filter(|path| !path.is_empty()) {
        let object = PathBuf::from(object);
        return fs::canonicalize(&object).map_or_else(|error| unreadable(&object, &error), Some);
    }
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
    let workspace = package
        .parent()
        .filter(|parent| parent.join("observer-ebpf").is_dir())?;
    let folder = workspace.join("target/bpf");
    let object = folder.join(object_name());
    if object.is_file() {
        return Some(object);
    }
    watch(&folder);
    None
}

fn object_name() -> &'static str {
    let log = env::var_os("CARGO_FEATURE_EBPF_LOG").is_some();
    if log {
        "observer-ebpf-log.o"
    } else {
        "observer-ebpf.o"
    }
}

/// Cargo takes a folder that does not exist for one that changed, each time.
fn watch(folder: &Path) {
    if fs::create_dir_all(folder).is_ok() {
        println!("cargo::rerun-if-changed={}", folder.display());
    }
}

fn unreadable(object: &Path, error: &std::io::Error) -> Option<PathBuf> {
    println!("cargo::error={OBJECT}: {}: {error}", object.display());
    None
}
