//! The operator's log, on stderr.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

/// What to log, as in `OBSERVER_LOG=debug` or `OBSERVER_LOG=observer::attest=trace`.
const VARIABLE: &str = "OBSERVER_LOG";
const DEFAULT: &str = "info";

/// Starts the log. A filter that cannot be read is said and not used.
pub(super) fn start() {
    let wanted = std::env::var_os(VARIABLE);
    let wanted = wanted.as_ref().map(|text| text.to_string_lossy());
    let wanted = wanted
        .as_deref()
        .filter(|text| !text.is_empty())
        .unwrap_or(DEFAULT);
    let (filter, error) = match EnvFilter::try_new(wanted) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(DEFAULT), Some(error)),
    };
    tracing_subscriber::fmt()
        .compact()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        // It would panic where stderr is gone.
        .log_internal_errors(false)
        .init();
    if let Some(error) = error {
        tracing::warn!("{VARIABLE} is not used: {error}");
    }
}
