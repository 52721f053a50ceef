//! How an audit trail is kept.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, value_parser};
use observer_audit::Options;

use super::paths::Named;

const MAX_SEAL_MS: u64 = 24 * 60 * 60 * 1000;
/// Room for some lines.
const SMALLEST_FILE: u64 = 4096;

#[derive(Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Audit trail")]
pub(super) struct Flags {
    /// Keep a sealed trail of every forgery, refusal and conflict in this
    /// file, one JSON object a line. The observer does not start if it cannot
    /// be kept
    #[arg(long, value_name = "FILE", requires = "audit_key")]
    audit: Option<PathBuf>,

    /// Signing key of the trail, created by `observer audit keygen`. It is
    /// replaced at every seal
    #[arg(long, value_name = "FILE", requires = "audit")]
    audit_key: Option<PathBuf>,

    /// Write each line to the disk within this many milliseconds, or (`seal`)
    /// with the next seal
    #[arg(long, value_name = "MS|seal", value_parser = parse_sync, default_value = "100", requires = "audit")]
    audit_sync: Sync,

    /// Seal each incident within this many milliseconds. What is sealed can no
    /// longer be rewritten unnoticed
    #[arg(long, value_name = "MS", value_parser = value_parser!(u64).range(1..=MAX_SEAL_MS), default_value_t = 1000, requires = "audit")]
    audit_seal_ms: u64,

    /// Begin a new file when this one has this many bytes
    #[arg(long, value_name = "BYTES", value_parser = value_parser!(u64).range(SMALLEST_FILE..), default_value_t = 64 << 20, requires = "audit")]
    audit_rotate_bytes: u64,

    /// Rotated files to keep. The oldest is removed, which a line records
    #[arg(long, value_name = "N", default_value_t = 16, requires = "audit")]
    audit_keep: usize,
}

impl Flags {
    /// The trail and its key, with the flags that name them.
    pub(super) fn files(&self) -> impl Iterator<Item = Named<'_>> {
        let trail = self.audit.as_deref().map(|path| ("--audit", path));
        let key = self.audit_key.as_deref().map(|path| ("--audit-key", path));
        trail.into_iter().chain(key)
    }

    /// How to keep a trail, if one is wanted.
    pub(super) fn options(&self) -> Option<Options> {
        let (file, key) = (self.audit.as_ref()?, self.audit_key.as_ref()?);
        Some(Options {
            sync_after: self.audit_sync.0,
            seal_after: Duration::from_millis(self.audit_seal_ms),
            rotate_bytes: self.audit_rotate_bytes,
            keep: self.audit_keep,
            ..Options::new(file, key)
        })
    }
}

/// How soon a line is on the disk; `None`: with the next seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sync(Option<Duration>);

fn parse_sync(text: &str) -> Result<Sync, String> {
    if text == "seal" {
        return Ok(Sync(None));
    }
    match text.parse() {
        Ok(milliseconds @ 0..=MAX_SEAL_MS) => Ok(Sync(Some(Duration::from_millis(milliseconds)))),
        _ => Err(format!(
            "neither `seal` nor a number of milliseconds up to {MAX_SEAL_MS}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sync_policies() {
        assert_eq!(parse_sync("seal"), Ok(Sync(None)));
        assert_eq!(parse_sync("0"), Ok(Sync(Some(Duration::ZERO))));
        for bad in ["", "never", "-1", "1.5", "86400001"] {
            assert!(parse_sync(bad).is_err(), "{bad}");
        }
    }
}
