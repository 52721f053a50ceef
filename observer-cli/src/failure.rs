//! How the command ends when it fails: exit codes and error texts.

use std::process::ExitCode;

use observer::StartError;

const FAILURE: u8 = 1;
const USAGE: u8 = 2;
pub(crate) const CANNOT_ATTEST: u8 = 3;

/// The error and its causes, each once, since some errors include their cause;
/// then what to do about it.
pub(crate) fn explain(error: &anyhow::Error) -> String {
    let start = error.downcast_ref::<StartError>();
    let causes = error.chain().map(ToString::to_string);
    let text = causes.fold(String::new(), |mut text, cause| {
        if !text.contains(&cause) {
            let colon = if text.is_empty() { "" } else { ": " };
            text.extend([colon, &cause]);
        }
        text
    });
    match start.and_then(advice) {
        Some(advice) => format!("{text}; {advice}"),
        None => text,
    }
}

pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
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

/// What to do, where a flag helps. The library's errors name no flags.
fn advice(error: &StartError) -> Option<&'static str> {
    Some(match error {
        StartError::CannotAttest(_) => {
            "run as root or with CAP_BPF and CAP_PERFMON, see `observer doctor`; `--tier helper` \
             would know less of senders, and `--attest prefer` would use SCM_CREDENTIALS, which a \
             privileged sender can forge"
        }
        StartError::CannotAttestUdp(_) => {
            "see `observer doctor`; --cgroup names another cgroup, and without --udp none is needed"
        }
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
    })
}
