//! `ip`, with which the end-to-end tests connect network namespaces.

use anyhow::{Result, anyhow};

use crate::apt;
use crate::process::find_on_path;

const PACKAGE: &str = "iproute2";

/// Installs it unless it is there.
///
/// # Errors
/// With the line that does it by hand.
pub(crate) fn ensure() -> Result<()> {
    // Debian keeps it where only root's PATH leads.
    if find_on_path("ip").is_some() || std::path::Path::new("/usr/sbin/ip").exists() {
        return Ok(());
    }
    let package = [String::from(PACKAGE)];
    apt::ensure(&package).map_err(|error| {
        anyhow!(
            "the tests need `ip`: {error:#}\n    {}",
            apt::by_hand(&package)
        )
    })
}
