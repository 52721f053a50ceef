//! Reports as lines for a person.

use std::fmt::{self, Display};
use std::io::Write as _;
use std::net::SocketAddr;

use anstyle::{AnsiColor, Style};

use super::plain::Plain;
use super::words::{Count, Nonce};
use crate::event::{Attestation, AuthFailureCause, BeatOrigin, Event, Status, Via};
use crate::report::{Limit, Notice, Observation, Report};

/// Appends one line: when, what, which pid, and the particulars.
pub(super) fn write(buffer: &mut Vec<u8>, report: &Report, color: bool) {
    let Line {
        observer_ns,
        label,
        style,
        pid,
        text,
        source,
    } = match report {
        Report::Observation(observation) => Line::from(observation),
        Report::Notice(notice) => Line::from(notice),
    };
    let style = if color { style } else { Style::new() };
    // Writing to memory cannot fail.
    writeln!(
        buffer,
        "{style}{time}  {label:<10}  {pid:>7}  {text}{from}{style:#}",
        time = Seconds(observer_ns),
        pid = Or(pid, "-"),
        from = Source(source),
    )
    .unwrap_or_default();
}

const ROUTINE: Style = Style::new().dimmed();
const NOTICE: Style = AnsiColor::Yellow.on_default();
const SPOOF: Style = AnsiColor::Red.on_default().bold();

/// The columns of a line. A label in capitals marks what may be a forgery, so
/// that it stands out without colour too.
struct Line {
    observer_ns: u64,
    label: &'static str,
    style: Style,
    /// The agent's, or the one that was claimed.
    pid: Option<u32>,
    text: String,
    /// Where it came from, if by UDP.
    source: Option<SocketAddr>,
}

impl From<&Observation> for Line {
    fn from(Observation { event, evidence }: &Observation) -> Self {
        let (label, style) = head(event);
        let sender = evidence.sender.as_ref();
        Self {
            observer_ns: event.observer_ns(),
            label,
            style,
            pid: match event {
                Event::Decode(..) | Event::CtrlTruncated(..) => visible_pid(sender),
                event => event.pid(),
            },
            text: text(event, sender),
            source: evidence.source,
        }
    }
}

impl From<&Notice> for Line {
    fn from(notice: &Notice) -> Self {
        let evidence = notice.evidence().copied().unwrap_or_default();
        let who = Who(evidence.sender.as_ref());
        let (label, text) = match notice {
            Notice::RefusedSender { count, .. } => (
                "refused",
                format!(
                    "{} of {who}, who is not allowed",
                    Count(*count, "beat", "beats")
                ),
            ),
            Notice::ThrottledSender { count, limit, .. } => (
                "throttled",
                format!("{} of {who} dropped: {}", datagrams(*count), over(*limit)),
            ),
            Notice::DescriptorsRefused { count, .. } => (
                "refused",
                format!("{} of {who} with descriptors attached", datagrams(*count)),
            ),
            Notice::Absence { away_ns, .. } => (
                "absence",
                format!("the observer was away for {:.3} s", Seconds(*away_ns)),
            ),
            Notice::TableFull { agents, .. } => (
                "table full",
                format!("{agents} agents are known: who holds more than a share may lose slots"),
            ),
            Notice::Unheard {
                last_ns,
                observer_ns,
                ..
            } => (
                "unheard",
                format!(
                    "tries to beat, and nothing has arrived for {:.3} s",
                    Seconds(observer_ns.saturating_sub(*last_ns))
                ),
            ),
            Notice::AttestationLost { reason, .. } => ("LOST", format!("attestation: {reason}")),
            Notice::AttestationRegained { reason, .. } => {
                ("regained", format!("attestation: {reason}"))
            }
            Notice::ReceiveLost { reason, .. } => (
                "LOST",
                format!("reception: {reason}; no stall is judged meanwhile"),
            ),
            Notice::ReceiveRegained { reason, .. } => ("regained", format!("reception: {reason}")),
        };
        Self {
            observer_ns: notice.observer_ns(),
            label,
            style: NOTICE,
            pid: notice.pid(),
            text,
            source: evidence.source,
        }
    }
}

fn datagrams(count: u64) -> Count<'static> {
    Count(count, "datagram", "datagrams")
}

/// What a sender did too much of.
fn over(limit: Limit) -> &'static str {
    match limit {
        Limit::Process => "over its rate",
        Limit::User => "its user's strangers are over theirs",
        Limit::Cgroup => "its cgroup's strangers are over theirs",
        Limit::Ring => "over its share of the ring, which fills up",
    }
}

fn head(event: &Event) -> (&'static str, Style) {
    match *event {
        Event::Beat {
            status: Status::Ok, ..
        } => ("beat", ROUTINE),
        Event::Beat { .. } => ("beat", NOTICE),
        Event::Stall { .. } => ("stall", NOTICE),
        Event::Decode(..) => ("decode", NOTICE),
        Event::AuthFailure { cause, .. } => (cause_label(cause), SPOOF),
        Event::OriginConflict { .. } => ("CONFLICT", SPOOF),
        Event::NamespaceConflict { .. } => ("FOREIGN", SPOOF),
        Event::Io(..) => ("io", NOTICE),
        Event::CtrlTruncated(..) => ("truncated", NOTICE),
    }
}

fn cause_label(cause: AuthFailureCause) -> &'static str {
    match cause {
        AuthFailureCause::PidMismatch | AuthFailureCause::ForgedCredentials => "FORGED",
        AuthFailureCause::Sqpoll => "SQPOLL",
        AuthFailureCause::Unattested => "UNATTESTED",
        AuthFailureCause::Corked => "CORKED",
    }
}

fn visible_pid(sender: Option<&Attestation>) -> Option<u32> {
    sender.and_then(|sender| sender.pid)
}

/// The particulars.
fn text(event: &Event, sender: Option<&Attestation>) -> String {
    match event {
        Event::Beat {
            status,
            payload,
            nonce,
            origin,
            ..
        } => format!(
            "{:<8}  nonce {:<6}  payload {payload:<6}  {}{}",
            status.name(),
            Nonce(*nonce),
            Name(sender),
            Doubt(*origin, sender),
        ),
        Event::Stall {
            last_nonce,
            last_ns,
            origin,
            observer_ns,
            ..
        } => format!(
            "silent for {:.3} s since nonce {}  {}{}",
            Seconds(observer_ns.saturating_sub(*last_ns)),
            Nonce(*last_nonce),
            Name(sender),
            Doubt(*origin, sender),
        ),
        Event::Decode(error, _) => format!("{error}, sent by {}", Who(sender)),
        Event::AuthFailure {
            claimed_pid, cause, ..
        } => auth_failure(*claimed_pid, *cause, sender),
        Event::OriginConflict {
            claimed_pid,
            observed_origin,
            slot_origin,
            ..
        } => format!(
            "claims {claimed_pid} by {}, but that agent is known by {}; sent by {}",
            origin_name(*observed_origin),
            origin_name(*slot_origin),
            Who(sender),
        ),
        Event::NamespaceConflict {
            claimed_pid,
            observed_ns_inode,
            observer_ns_inode,
            ..
        } => format!(
            "claims {claimed_pid} from pid namespace {}, expected {}; really {}",
            Or(*observed_ns_inode, "unknown"),
            Or(*observer_ns_inode, "unknown"),
            Who(sender),
        ),
        Event::Io(error, _) => format!("receive failed: {}", Plain(error)),
        Event::CtrlTruncated(error, _) => {
            format!("{}, sent by {}", Plain(error), Who(sender))
        }
    }
}

fn auth_failure(claimed: u32, cause: AuthFailureCause, sender: Option<&Attestation>) -> String {
    let who = Who(sender);
    let scm = Or(sender.and_then(|sender| sender.scm_pid), "nobody");
    match cause {
        AuthFailureCause::PidMismatch => format!("claims {claimed}, really {who}"),
        AuthFailureCause::ForgedCredentials => {
            format!("claims {claimed}, credentials claim {scm}, really {who}")
        }
        AuthFailureCause::Sqpoll => {
            format!("claims {claimed}, sent by the io_uring poll thread of {who}")
        }
        AuthFailureCause::Unattested if sender.is_some_and(|sender| sender.via != Via::Scm) => {
            format!("claims {claimed}, sent by {who} over a device that is not attested")
        }
        AuthFailureCause::Unattested => {
            format!("claims {claimed}, credentials claim {scm}, the kernel recorded no sender")
        }
        AuthFailureCause::Corked => {
            format!("claims {claimed}, in a send that others may have added to, sent off by {who}")
        }
    }
}

fn origin_name(origin: BeatOrigin) -> &'static str {
    match origin {
        BeatOrigin::KernelAttested => "kernel attestation",
        BeatOrigin::OperatorAttestedTransport => "a trusted listener",
        BeatOrigin::NetworkUnverified => "the unverified network",
        BeatOrigin::SocketModeOnly => "the socket's mode only",
    }
}

/// The address of a datagram that came by UDP.
struct Source(Option<SocketAddr>);

impl Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(source) => write!(f, "  from {source}"),
            None => Ok(()),
        }
    }
}

/// Nanoseconds, shown as seconds with milliseconds.
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0 / 1_000_000_000, self.0 / 1_000_000 % 1000);
        match f.precision() {
            Some(_) => write!(f, "{seconds}.{millis:03}"),
            None => write!(f, "{seconds:>6}.{millis:03}"),
        }
    }
}

/// A value, or what stands for its absence.
struct Or<T>(Option<T>, &'static str);

impl<T: Display> Display for Or<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.pad(self.1),
        }
    }
}

/// Name and user of a sender whose pid has been said already.
struct Name<'a>(Option<&'a Attestation>);

impl Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(sender) = self.0 else {
            return f.write_str("unknown sender");
        };
        write!(f, "({})", Or(sender.comm, "?"))?;
        match sender.uid {
            Some(uid) => write!(f, " uid {uid}"),
            None => Ok(()),
        }
    }
}

/// A sender with its pid: the observer's view of it, else the host's.
struct Who<'a>(Option<&'a Attestation>);

impl Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(sender) = self.0 else {
            return f.write_str("unknown sender");
        };
        match (sender.pid, sender.host_pid) {
            (Some(pid), _) => write!(f, "{pid} ")?,
            (None, Some(host_pid)) => write!(f, "host pid {host_pid} ")?,
            (None, None) => f.write_str("an invisible process ")?,
        }
        Name(self.0).fmt(f)
    }
}

/// Why a beat is worth less than an attested one; nothing if it is not.
struct Doubt<'a>(BeatOrigin, Option<&'a Attestation>);

impl Display for Doubt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(origin, sender) = *self;
        if origin != BeatOrigin::KernelAttested {
            return write!(f, "  by {}", origin_name(origin));
        }
        match sender.map(|sender| sender.via) {
            Some(Via::Scm) => f.write_str("  by SCM_CREDENTIALS only"),
            Some(Via::Btf | Via::Helper) | None => Ok(()),
        }
    }
}
