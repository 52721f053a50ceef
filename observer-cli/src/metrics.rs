//! The metrics: every family, its help, its labels.
//!
//! No label has a value that senders choose, and none names an agent: the
//! number of series does not depend on who beats. Single agents are in
//! [`DaemonStatus`].

mod agents;
mod audit;
mod classic;
mod families;
mod findings;
mod host;
mod join;
mod losses;
mod programs;
#[cfg(test)]
mod tests;
mod text_format;

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use self::families::Families;
pub(crate) use self::text_format::TextFormat;
use crate::daemon_status::DaemonStatus;

/// All metrics of an observer as text.
///
/// # Errors
/// Never: a string takes everything.
pub(crate) fn render(status: DaemonStatus, format: TextFormat) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("observer");
    registry.register_collector(Box::new(Exposition(status)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(match format {
        TextFormat::OpenMetrics => text,
        TextFormat::Classic => classic::from_open_metrics(&text),
    })
}

#[derive(Debug)]
struct Exposition(DaemonStatus);

impl Collector for Exposition {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self(status) = self;
        let mut families = Families(encoder);
        host::encode(&mut families, status)?;
        agents::encode(&mut families, &status.observer)?;
        findings::encode(&mut families, &status.observer.counters)?;
        losses::encode(&mut families, status)?;
        join::encode(&mut families, &status.observer)?;
        programs::encode(&mut families, &status.observer.routes)?;
        match &status.audit {
            Some(audit) => audit::encode(&mut families, &audit.counts),
            None => Ok(()),
        }
    }
}
