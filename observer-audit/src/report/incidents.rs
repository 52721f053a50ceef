//! What one line adds to a summary.

use super::line::Line;
use super::sender::Sender;
use super::text::bounded;

/// The incidents that one line is about.
pub(super) struct Incidents<'a> {
    pub(super) line: &'a Line,
    pub(super) how: &'static str,
    pub(super) count: u64,
    pub(super) first: &'a str,
    pub(super) last: &'a str,
    pub(super) victim: Option<u32>,
    /// Whether they all have one claim, or none.
    pub(super) is_one_claim: bool,
    /// Whether they all have one sender.
    is_one_sender: bool,
}

impl<'a> Incidents<'a> {
    /// `None`: the line is about no incident.
    pub(super) fn of(line: &'a Line) -> Option<Self> {
        let repeat = line.kind == "repeat";
        let kind = line.of.as_deref().filter(|_| repeat).unwrap_or(&line.kind);
        let how = how(kind, line.cause.as_deref())?;
        let alike = line.alike.as_deref().filter(|_| repeat);
        let time = line.time.as_str();
        let is_one_claim = matches!(alike, None | Some("sender_and_claim"));
        Some(Self {
            line,
            how,
            // An incident in full is one, unless it has a count.
            count: line.count.max(u64::from(!repeat)),
            first: line.first.as_deref().filter(|_| repeat).unwrap_or(time),
            last: line.last.as_deref().filter(|_| repeat).unwrap_or(time),
            // A sender that is refused for its user claimed its own pid.
            victim: line
                .claimed_pid
                .filter(|_| is_one_claim && kind != "refused_sender"),
            is_one_claim,
            is_one_sender: matches!(alike, None | Some("sender_and_claim" | "sender")),
        })
    }

    /// Who really sent, in this boot.
    pub(super) fn sender(&self, boot: u32) -> Sender {
        if self.how == CORKED {
            // Anybody may have written what its sender sent.
            return Sender {
                boot,
                ..Sender::default()
            };
        }
        let fields = self.line.sender.clone().unwrap_or_default();
        if self.is_one_sender {
            return Sender::new(&fields, boot, None);
        }
        let cgroup = self
            .line
            .container
            .as_ref()
            .and_then(|container| container.cgroup.as_deref());
        Sender {
            uid: fields.uid,
            boot,
            cgroup: Some(bounded(cgroup.unwrap_or("an unknown cgroup"))),
            ..Sender::default()
        }
    }
}

/// The cause of an incident whose sender is not its author
/// ([`AuthFailureCause::Corked`](observer_events::event::AuthFailureCause::Corked)).
pub(super) const CORKED: &str = "corked";

/// The kinds of incident by name; `None`: not an incident.
fn how(kind: &str, cause: Option<&str>) -> Option<&'static str> {
    Some(match (kind, cause) {
        ("auth_failure", Some("pid_mismatch")) => "pid_mismatch",
        ("auth_failure", Some("forged_credentials")) => "forged_credentials",
        ("auth_failure", Some("sqpoll")) => "sqpoll",
        ("auth_failure", Some("unattested")) => "unattested",
        ("auth_failure", Some(CORKED)) => CORKED,
        ("auth_failure", _) => "auth_failure",
        ("namespace_conflict", _) => "namespace_conflict",
        ("origin_conflict", _) => "origin_conflict",
        ("refused_sender", _) => "refused_sender",
        ("throttled_sender", _) => "throttled_sender",
        ("descriptors_refused", _) => "descriptors_refused",
        ("ctrl_truncated", _) => "ctrl_truncated",
        _ => return None,
    })
}
