//! What the eBPF programs log in an object built with
//! `cargo xtask build-ebpf --log`.

use aya::Ebpf;
use aya_log::EbpfLogger;

/// Reads the programs' log and passes it on to the operator's.
pub(crate) struct DebugLog(Option<EbpfLogger<Forward>>);

impl DebugLog {
    /// An object without a log works as well; it is logged that it has none.
    pub(super) fn start(ebpf: &mut Ebpf) -> Self {
        match EbpfLogger::init_with_logger(ebpf, Forward) {
            Ok(logger) => Self(Some(logger)),
            Err(error) => {
                tracing::warn!(%error, "the eBPF object has no log");
                Self(None)
            }
        }
    }

    pub(crate) fn pass_on(&mut self) {
        if let Some(logger) = &mut self.0 {
            logger.flush();
        }
    }
}

/// aya-log writes to `log`, the observer to `tracing`.
struct Forward;

impl log::Log for Forward {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        tracing::info!(level = %record.level(), "eBPF: {}", record.args());
    }

    fn flush(&self) {}
}
