//! The public Python client, one of the agents in the end-to-end tests.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;
use crate::{pip, say};

const PACKAGE: &str = "varta";
const VERSION: &str = "0.2.0";

/// Where the package is, for `PYTHONPATH`.
pub(crate) fn folder(workspace: &Workspace) -> PathBuf {
    workspace.tools().join("python")
}

/// Installs the package under `target/tools` unless it is there.
///
/// # Errors
/// With the line that does it by hand.
pub(crate) fn ensure(workspace: &Workspace) -> Result<()> {
    let folder = folder(workspace);
    if folder
        .join(format!("{PACKAGE}-{VERSION}.dist-info/RECORD"))
        .is_file()
    {
        return Ok(());
    }
    say::fact(
        "installing",
        format_args!("{PACKAGE} {VERSION} for Python, used by the tests"),
    );
    pip::install(&folder, |pip| pip.arg(format!("{PACKAGE}=={VERSION}")))
        .with_context(|| format!("cannot install {PACKAGE} {VERSION}"))
}

/// What `setup` says of it.
pub(crate) fn summary() -> String {
    format!("{PACKAGE} {VERSION} for python3")
}
