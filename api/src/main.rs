//! Lists the public API of a library, an item a line: `observer-api FILE`, where
//! FILE is rustdoc's JSON of it.
//!
//! Apart from xtask, whose other verbs do not need these dependencies.

use std::env;
use std::io::{Write as _, stdout};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use public_api::Builder;

/// Traits that the compiler implements by itself, and that users of a library
/// do not build on. Whether a type is `Send` is part of its API.
const LEFT_OUT: [&str; 4] = [
    "impl core::marker::Freeze for ",
    "impl core::marker::StructuralPartialEq for ",
    "impl core::marker::UnsafeUnpin for ",
    "impl core::panic::unwind_safe::",
];

fn main() -> Result<()> {
    let file = env::args_os().nth(1).context("usage: observer-api FILE")?;
    // Without implementations that every type has.
    let api = Builder::from_rustdoc_json(PathBuf::from(file))
        .omit_blanket_impls(true)
        .build()?;
    let mut stdout = stdout().lock();
    for item in api.items().map(ToString::to_string) {
        if !LEFT_OUT.iter().any(|start| item.starts_with(start)) {
            writeln!(stdout, "{item}")?;
        }
    }
    Ok(())
}
