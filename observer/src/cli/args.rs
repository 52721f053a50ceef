//! The arguments of each command, checked as far as they can be without
//! touching the socket.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum, builder::RangedU64ValueParser, value_parser};
use observer::event::{Status, Via};
use observer::{AttestMode, DEFAULT_MAX_AGENTS};

/// A threshold beyond a year is a slip of the hand.
const MAX_THRESHOLD_MS: u64 = 366 * 24 * 60 * 60 * 1000;
const MAX_AGENTS: u64 = 1 << 20;
const SMALLEST_RING: u32 = 4096;

pub(super) const RUN_NOTES: &str = "Events go to stdout, the log to stderr. A line `ready` on \
    stderr says that beats are received now. SIGTERM and SIGINT end the observer once it has \
    written what it received. OBSERVER_LOG=debug makes the log say more.";

/// `observer run`
#[derive(Debug, Args)]
pub(super) struct Run {
    /// Unix datagram socket to receive on; created, and removed at exit
    #[arg(long, value_name = "PATH")]
    pub(super) socket: PathBuf,

    /// Silence after which an agent counts as stalled, in milliseconds
    #[arg(long, value_name = "MS", value_parser = value_parser!(u64).range(1..=MAX_THRESHOLD_MS))]
    pub(super) threshold_ms: u64,

    /// How much proof of the sender a beat needs
    #[arg(long, value_name = "MODE", value_enum, default_value_t = Attest::Require)]
    pub(super) attest: Attest,

    /// How to write events to stdout, which is written as fast as its reader
    /// reads: the socket's senders wait behind a reader that does not
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Output::Human)]
    pub(super) output: Output,

    /// Short for --output json
    #[arg(long, conflicts_with = "output")]
    json: bool,

    /// Permissions of the socket, octal, at most 0777; who may write may beat
    #[arg(long, value_name = "OCTAL", value_parser = parse_mode, default_value = "0600")]
    pub(super) socket_mode: u32,

    /// Group of the socket: a number, or a name in /etc/group [default: the
    /// process's own]
    #[arg(long, value_name = "NAME|GID", value_parser = parse_group)]
    pub(super) socket_group: Option<u32>,

    /// Agents to keep track of at the same time
    #[arg(
        long,
        value_name = "N",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_AGENTS),
        default_value_t = DEFAULT_MAX_AGENTS
    )]
    pub(super) max_agents: usize,

    /// Use this way of attestation and no other [default: the strongest that
    /// works]
    #[arg(long, value_name = "TIER", value_enum, hide_short_help = true)]
    tier: Option<Tier>,

    /// Size of the kernel's ring of records, in bytes (for tests)
    #[arg(long, value_name = "BYTES", value_parser = parse_ring, hide = true)]
    pub(super) ring_bytes: Option<u32>,
}

impl Run {
    pub(super) fn json(&self) -> bool {
        self.json || self.output == Output::Json
    }

    pub(super) fn threshold(&self) -> Duration {
        Duration::from_millis(self.threshold_ms)
    }

    /// What two flags demand together and cannot have.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        match (self.attest, self.tier) {
            (Attest::Require, Some(Tier::Scm)) => {
                Some("--tier scm attests nothing; it needs --attest prefer or --attest off")
            }
            (Attest::Off, Some(Tier::Btf | Tier::Helper)) => {
                Some("--attest off uses no eBPF; leave --tier out, or use --attest prefer")
            }
            _ => None,
        }
    }

    pub(super) fn tier(&self) -> Option<Via> {
        self.tier.map(|tier| match tier {
            Tier::Btf => Via::Btf,
            Tier::Helper => Via::Helper,
            Tier::Scm => Via::Scm,
        })
    }
}

/// `observer doctor`
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Write one JSON object instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

/// `observer beat`
#[derive(Debug, Args)]
pub(super) struct Beat {
    /// Socket of the observer
    #[arg(long, value_name = "PATH")]
    pub(super) socket: PathBuf,

    /// Time between two beats, in milliseconds
    #[arg(
        long,
        value_name = "MS",
        value_parser = value_parser!(u64).range(1..=MAX_THRESHOLD_MS),
        default_value_t = 1000
    )]
    pub(super) interval_ms: u64,

    /// Beats to send; 0: until stopped
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) count: u64,

    /// Health to report
    #[arg(long, value_name = "STATUS", value_enum, default_value_t = Health::Ok)]
    status: Health,

    /// The agent's own word, a number that the observer passes on
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) payload: u32,

    /// Lie: claim to be this process [default: the truth]. Shows what a
    /// forgery looks like at the observer
    #[arg(long, value_name = "PID")]
    pub(super) claim_pid: Option<u32>,
}

impl Beat {
    pub(super) fn status(&self) -> Status {
        match self.status {
            Health::Ok => Status::Ok,
            Health::Degraded => Status::Degraded,
            Health::Critical => Status::Critical,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Attest {
    /// Refuse to start where the kernel cannot attest senders, and refuse
    /// each beat that comes without attestation
    Require,
    /// Fall back to SCM_CREDENTIALS, which a privileged sender can forge,
    /// and say so
    Prefer,
    /// Use SCM_CREDENTIALS only
    Off,
}

impl From<Attest> for AttestMode {
    fn from(mode: Attest) -> Self {
        match mode {
            Attest::Require => Self::Require,
            Attest::Prefer => Self::Prefer,
            Attest::Off => Self::Off,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// One aligned line per event; colour on a terminal only
    Human,
    /// One JSON object per event and line
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tier {
    /// eBPF, reading the sender's task structures
    Btf,
    /// eBPF with helper functions only
    Helper,
    /// SCM_CREDENTIALS; not with --attest require
    Scm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Health {
    Ok,
    Degraded,
    Critical,
}

fn parse_mode(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| matches!(byte, b'0'..=b'7')) {
        return Err("not an octal number; write it as chmod does, such as 0660".into());
    }
    match u32::from_str_radix(digits, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("permissions go up to 0777".into()),
    }
}

/// Looks names up in `/etc/group` and nowhere else: a directory service may
/// hang, and the daemon starts at boot.
fn parse_group(text: &str) -> Result<u32, String> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // The kernel takes the highest number for "leave it as it is".
        return match text.parse() {
            Ok(gid) if gid != u32::MAX => Ok(gid),
            _ => Err("not a group id".into()),
        };
    }
    let groups = std::fs::read("/etc/group")
        .map_err(|error| format!("cannot read /etc/group ({error}); give the group's number"))?;
    find_group(&String::from_utf8_lossy(&groups), text).ok_or_else(|| {
        "no such group in /etc/group; for one from elsewhere give its number, which `getent \
         group` shows"
            .into()
    })
}

fn find_group(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then_some(())?;
        fields.nth(1)?.parse().ok()
    })
}

fn parse_ring(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(bytes) if bytes.is_power_of_two() && bytes >= SMALLEST_RING => Ok(bytes),
        _ => Err(format!("not a power of two of at least {SMALLEST_RING}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        assert_eq!(parse_mode("0600"), Ok(observer::DEFAULT_SOCKET_MODE));
        assert_eq!(parse_mode("0o660"), Ok(0o660));
        assert_eq!(parse_mode("777"), Ok(0o777));
        for bad in ["", "0o", "1777", "8", "+600", "rw", "-1", "77777777777777"] {
            assert!(parse_mode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn groups() {
        let file = "root:x:0:\nstaff:x:50:alice,bob\nbroken\nodd:x:many:\n";
        assert_eq!(find_group(file, "staff"), Some(50));
        assert_eq!(find_group(file, "root"), Some(0));
        for missing in ["", "sta", "broken", "odd", "x"] {
            assert_eq!(find_group(file, missing), None, "{missing}");
        }
        assert_eq!(parse_group("1234"), Ok(1234));
        assert!(parse_group("4294967295").is_err());
        assert!(parse_group("no such group").is_err());
        assert!(parse_group("").is_err());
    }

    #[test]
    fn rings() {
        assert_eq!(parse_ring("4096"), Ok(4096));
        for bad in ["0", "2048", "5000", "x"] {
            assert!(parse_ring(bad).is_err(), "{bad}");
        }
    }
}
