//! The audit trail.

use std::fmt;

use observer_audit::Counts;

use super::families::Families;

pub(super) fn encode(families: &mut Families<'_>, counts: &Counts) -> fmt::Result {
    families.counter(
        "audit_incidents",
        "Incidents recorded in the audit trail, in full or counted",
        counts.audit_incidents,
    )?;
    families.counter(
        "audit_lines",
        "Lines written to the audit trail",
        counts.audit_lines,
    )?;
    families.counter(
        "audit_failures",
        "Writes and syncs of the audit trail that failed",
        counts.audit_failures,
    )?;
    families.counter(
        "audit_unread",
        "Senders whose /proc files could not be read in time, or not all of them",
        counts.audit_unread,
    )
}
