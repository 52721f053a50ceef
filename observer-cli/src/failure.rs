//! How the command ends when it fails: exit codes and error texts.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;

use observer::StartError;
use observer_audit::OpenError;
use rustix::thread::{CapabilitySet, capabilities};

const FAILURE: u8 = 1;
const USAGE: u8 = 2;
pub(crate) const CANNOT_ATTEST: u8 = 3;

/// The error and its causes, each once, since some errors include their cause;
/// then what to do about it.
pub(crate) fn explain(error: &anyhow::Error) -> String {
    let causes = error.chain().map(ToString::to_string);
    let text = causes.fold(String::new(), |mut text, cause| {
        if !text.contains(&cause) {
            let colon = if text.is_empty() { "" } else { ": " };
            text.extend([colon, &cause]);
        }
        text
    });
    match advice(error) {
        Some(advice) => format!("{text}; {advice}"),
        None => text,
    }
}

/// Something that was asked for cannot be meant, flags aside.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Usage {}

pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<Usage>() {
        return ExitCode::from(USAGE);
    }
    match error.downcast_ref::<StartError>() {
        Some(
            StartError::CannotAttest(_)
            | StartError::CannotAttestUdp(_)
            | StartError::CannotAttestListener(_)
            | StartError::TrustUnattested(_)
            | StartError::Attach(_)
            | StartError::UsersUnknown(_)
            | StartError::UsersUnproven { .. },
        ) => ExitCode::from(CANNOT_ATTEST),
        Some(
            StartError::NoConsent(_)
            | StartError::TooManyListeners(_)
            | StartError::TooManyDevices(_)
            | StartError::Device { .. }
            | StartError::BelowMinTier { .. }
            | StartError::OverSecurityModule(_),
        ) => ExitCode::from(USAGE),
        _ => ExitCode::from(FAILURE),
    }
}

/// The flag that an error is about, which no look at the host was needed for.
pub(crate) fn flag_of(error: &StartError) -> Option<&'static str> {
    match error {
        StartError::NoConsent(_) | StartError::TooManyListeners(_) => Some("udp"),
        StartError::TooManyDevices(_) => Some("attest-device"),
        StartError::BelowMinTier { .. } => Some("min-tier"),
        StartError::RingSize(_) => Some("ring-bytes"),
        StartError::Bind(_) => Some("socket"),
        _ => None,
    }
}

/// What to do, where a flag or a command helps. The libraries' errors name
/// none.
fn advice(error: &anyhow::Error) -> Option<String> {
    let start = error.downcast_ref().and_then(advice_to_start);
    start.or_else(|| {
        let is_about_key = matches!(error.downcast_ref(), Some(OpenError::Key(_)));
        let cause = error.root_cause().downcast_ref();
        let is_missing = cause.map(io::Error::kind) == Some(io::ErrorKind::NotFound);
        (is_about_key && is_missing).then(|| "`observer audit keygen` creates one".into())
    })
}

fn advice_to_start(error: &StartError) -> Option<String> {
    let text = match error {
        StartError::CannotAttest(_) => {
            "run as root or with CAP_BPF and CAP_PERFMON, see `observer doctor`; `--tier helper` \
             would know less of senders, and `--attest prefer` would use SCM_CREDENTIALS, which a \
             privileged sender can forge"
        }
        StartError::CannotAttestUdp(_) => return Some(advice_on_udp()),
        StartError::CannotAttestListener(_) => {
            "or accept beats without attestation, with --accept-network-beats"
        }
        StartError::TrustUnattested(_) => "or leave out --trust-udp",
        StartError::NoConsent(_) => {
            "bind a loopback address, or accept such beats as network_unverified with \
             --accept-network-beats, or trust the network with --trust-udp"
        }
        StartError::OverSecurityModule(_) => {
            "leave out --ingest ring and --refuse kernel, or allow them with --over-lsm"
        }
        StartError::UsersUnproven { .. } => {
            "start it as root or with CAP_SETUID and CAP_SETGID besides, or leave out --btf, or \
             --allow-uid and --allow-gid"
        }
        StartError::UsersUnknown(_) => "or leave out --allow-uid and --allow-gid",
        _ => return None,
    };
    Some(text.into())
}

/// What UDP needs beyond the Unix socket: a cgroup, and the right to attach to
/// it.
fn advice_on_udp() -> String {
    let lacking = lacking(&[
        ("CAP_BPF", CapabilitySet::BPF),
        ("CAP_PERFMON", CapabilitySet::PERFMON),
        ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN),
    ]);
    let otherwise = "see `observer doctor`; --cgroup names another cgroup, and without --udp none \
                     is needed";
    if lacking.is_empty() {
        return otherwise.into();
    }
    format!(
        "run as root or with {} as well, {otherwise}",
        lacking.join(" and ")
    )
}

/// Which of these this process does not hold. `CAP_SYS_ADMIN` stands for each.
fn lacking(needed: &[(&'static str, CapabilitySet)]) -> Vec<&'static str> {
    let Ok(held) = capabilities(None) else {
        return Vec::new();
    };
    let lacks =
        |&(_, one): &(_, CapabilitySet)| !held.effective.intersects(one | CapabilitySet::SYS_ADMIN);
    let lacking = needed.iter().copied().filter(lacks);
    lacking.map(|(name, _)| name).collect()
}
