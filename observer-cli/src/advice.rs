//! What to do about an observer that does not start, in the words of this
//! command: the library's errors know nothing of flags.

use observer::StartError;

/// What the operator can do, where a flag does it.
pub(super) fn for_error(error: &StartError) -> Option<&'static str> {
    Some(match error {
        StartError::CannotAttest(_) => {
            "run as root or with CAP_BPF and CAP_PERFMON, see `observer doctor`; `--attest prefer` \
             would go on with SCM_CREDENTIALS, which a privileged sender can forge"
        }
        StartError::CannotAttestUdp(_) => {
            "see `observer doctor`; a cgroup can be named with --cgroup, and without --udp none is \
             needed"
        }
        StartError::CannotAttestListener(_) => {
            "or take beats for what they are with --accept-network-beats"
        }
        StartError::TrustUnattested(_) => "or leave out --trust-udp",
        StartError::NoConsent(_) => {
            "bind a loopback address, or take such beats for what they are with \
             --accept-network-beats (network_unverified), or vouch for the network with --trust-udp"
        }
        StartError::OverSecurityModule(_) => {
            "leave out --ingest ring and --refuse kernel, or agree to that with --over-lsm"
        }
        StartError::UsersUnknown(_) => "or leave out --allow-uid and --allow-gid",
        _ => return None,
    })
}
