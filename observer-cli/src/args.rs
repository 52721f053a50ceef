//! The arguments of each command, checked as far as they can be without
//! touching the socket.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum, builder::RangedU64ValueParser, value_parser};
use observer::KERNEL_BTF;
use observer::OriginPolicy;
use observer::{
    AttestMode, DEFAULT_MAX_AGENTS, DEFAULT_MAX_BEAT_RATE, DEFAULT_POLL_INTERVAL, Ingest, Refuse,
};
use observer::{Namespaces, Senders};
use observer_events::event::{Status, Via};

use super::priority::Priority;

/// A threshold beyond a year is a slip of the hand.
const MAX_THRESHOLD_MS: u64 = 366 * 24 * 60 * 60 * 1000;
const MAX_AGENTS: u64 = 1 << 20;
const RING_SIZES: RangeInclusive<u32> = 4096..=observer::MAX_RING_BYTES;
/// Beyond a second beats would look like silences.
const MAX_LOOK_US: u64 = 1_000_000;
#[expect(clippy::cast_possible_truncation, reason = "it is a thousand")]
const DEFAULT_LOOK_US: u64 = DEFAULT_POLL_INTERVAL.as_micros() as u64;

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

    /// How to write events to stdout. What a reader does not read in time is
    /// counted and left out; it delays nothing
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Output::Human)]
    pub(super) output: Output,

    /// Short for --output json
    #[arg(long, conflicts_with = "output")]
    json: bool,

    /// Which events to write. Routine beats are by far the most, and metrics
    /// and `observer status` tell of them too
    #[arg(long, value_name = "WHICH", value_enum, default_value_t = Events::All)]
    pub(super) events: Events,

    /// How beats on the socket reach the observer
    #[arg(long, value_name = "WAY", value_enum, default_value_t = By::Socket)]
    ingest: By,

    /// Who refuses a beat on the socket that claims to be from another
    /// process
    #[arg(long, value_name = "WHO", value_enum, default_value_t = Refuser::User)]
    refuse: Refuser,

    /// Agree to --ingest ring and --refuse kernel where a security module
    /// decides who may send by Unix sockets: it is not asked about what the
    /// kernel's program takes
    #[arg(long)]
    pub(super) over_lsm: bool,

    /// Datagrams a second that one process may send to the socket, or by UDP,
    /// and twice as many at once; the kernel drops what is more. 0: no limit
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_BEAT_RATE)]
    pub(super) max_beat_rate: u32,

    /// The same for all processes of a user together, and for all of a cgroup,
    /// that no beat has been accepted of yet [default: ten times as much]
    #[arg(long, value_name = "N", hide_short_help = true)]
    pub(super) max_group_rate: Option<u32>,

    /// How soon the observer is served by the CPUs
    #[arg(long, value_name = "PRIORITY", value_enum, default_value_t = Priority::High)]
    pub(super) priority: Priority,

    /// Permissions of the socket, octal, at most 0777; who may write may beat
    #[arg(long, value_name = "OCTAL", value_parser = parse_mode, default_value = "0600")]
    pub(super) socket_mode: u32,

    /// Group of the socket: a number, or a name in /etc/group [default: the
    /// process's own]
    #[arg(long, value_name = "NAME|GID", value_parser = parse_group)]
    pub(super) socket_group: Option<u32>,

    #[command(flatten)]
    pub(super) udp: super::udp::Flags,

    /// Who keeps an agent that beats of different origins claim
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = Origins::First)]
    origin_policy: Origins,

    /// What becomes of agents in pid namespaces below the observer's
    #[arg(long = "namespaces", value_name = "POLICY", value_enum, default_value_t = Foreign::Refuse)]
    foreign: Foreign,

    /// User whose processes may be agents: a number, or a name in
    /// /etc/passwd; may be given several times [default: whoever may write
    /// to the socket]
    #[arg(long, value_name = "NAME|UID", value_parser = parse_user)]
    allow_uid: Vec<u32>,

    /// Group whose processes may be agents, likewise; enough by itself
    #[arg(long, value_name = "NAME|GID", value_parser = parse_group)]
    allow_gid: Vec<u32>,

    /// Agents to keep track of at the same time
    #[arg(
        long,
        value_name = "N",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_AGENTS),
        default_value_t = DEFAULT_MAX_AGENTS
    )]
    pub(super) max_agents: usize,

    #[command(flatten)]
    pub(super) audit: super::audit::Flags,

    #[command(flatten)]
    pub(super) serve: super::serve::Flags,

    /// Use this way of attestation and no other [default: the strongest that
    /// works]
    #[arg(long, value_name = "TIER", value_enum, hide_short_help = true)]
    tier: Option<Tier>,

    /// File with the running kernel's types (BTF), where the kernel itself
    /// shows none [default: /sys/kernel/btf/vmlinux]
    #[arg(long, value_name = "PATH", hide_short_help = true)]
    pub(super) btf: Option<PathBuf>,

    /// Time between two looks at the ring while it delivers many beats, in
    /// microseconds; with --ingest ring, and for what --refuse kernel refuses
    #[arg(
        long,
        value_name = "US",
        value_parser = value_parser!(u64).range(1..=MAX_LOOK_US),
        default_value_t = DEFAULT_LOOK_US,
        hide_short_help = true
    )]
    look_us: u64,

    /// Size of the kernel's ring of records, in bytes: a power of two up to 16
    /// MiB [default: 1 MiB, or 4 MiB with --ingest ring]
    #[arg(long, value_name = "BYTES", value_parser = parse_ring, hide_short_help = true)]
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
            (Attest::Off, _) | (_, Some(Tier::Scm)) if self.needs_program() => Some(
                "--ingest ring and --refuse kernel need eBPF, which --attest off and --tier scm \
                 do without",
            ),
            _ => self.serve.contradiction(),
        }
    }

    /// Whether something is asked for that only the eBPF program can do.
    pub(super) fn needs_program(&self) -> bool {
        self.ingest == By::Ring || self.refuse == Refuser::Kernel
    }

    pub(super) fn senders(&self) -> Senders {
        Senders {
            uids: self.allow_uid.clone(),
            gids: self.allow_gid.clone(),
        }
    }

    pub(super) fn namespaces(&self) -> Namespaces {
        match self.foreign {
            Foreign::Refuse => Namespaces::Refuse,
            Foreign::Translate => Namespaces::Translate,
        }
    }

    pub(super) fn origin_policy(&self) -> OriginPolicy {
        match self.origin_policy {
            Origins::First => OriginPolicy::First,
            Origins::Strongest => OriginPolicy::Strongest,
        }
    }

    pub(super) fn ingest(&self) -> Ingest {
        match self.ingest {
            By::Socket => Ingest::Socket,
            By::Ring => Ingest::Ring,
        }
    }

    pub(super) fn refuse(&self) -> Refuse {
        match self.refuse {
            Refuser::User => Refuse::User,
            Refuser::Kernel => Refuse::Kernel,
        }
    }

    pub(super) fn poll_interval(&self) -> Duration {
        Duration::from_micros(self.look_us)
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

    /// File with the running kernel's types (BTF)
    #[arg(long, value_name = "PATH", default_value = KERNEL_BTF, hide_short_help = true)]
    pub(super) btf: PathBuf,
}

/// `observer beat`
#[derive(Debug, Args)]
pub(super) struct Beat {
    /// Socket of the observer
    #[arg(long, value_name = "PATH", required_unless_present = "udp")]
    pub(super) socket: Option<PathBuf>,

    /// UDP address of the observer
    #[arg(long, value_name = "ADDR:PORT", conflicts_with = "socket")]
    pub(super) udp: Option<SocketAddr>,

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
enum Origins {
    /// The first; others are origin conflicts
    First,
    /// A kernel-attested beat takes the agent from an unverified claim
    Strongest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Foreign {
    /// Their beats are namespace conflicts
    Refuse,
    /// They claim the pid that they have in their own namespace, and are
    /// tracked by the one that the observer sees
    Translate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Events {
    /// All
    All,
    /// All but beats
    Notable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// By the socket's queue, each joined with its kernel record
    Socket,
    /// By the ring of kernel records, past the socket and its short queue;
    /// cheapest for all. Forged SCM_CREDENTIALS have no effect then, and are
    /// not told
    Ring,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Refuser {
    /// The observer, once it has received it
    User,
    /// The kernel, before it takes a place in the socket's queue; told all
    /// the same
    Kernel,
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

fn parse_group(text: &str) -> Result<u32, String> {
    parse_id(text, "/etc/group", "group")
}

fn parse_user(text: &str) -> Result<u32, String> {
    parse_id(text, "/etc/passwd", "user")
}

/// Looks names up in one file and nowhere else: a directory service may hang,
/// and the daemon starts at boot.
fn parse_id(text: &str, file: &str, kind: &str) -> Result<u32, String> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // The kernel takes the highest number for "leave it as it is", and
        // for "unknown".
        return match text.parse() {
            Ok(id) if id != u32::MAX => Ok(id),
            _ => Err(format!("not a {kind} id")),
        };
    }
    let names = std::fs::read(file)
        .map_err(|error| format!("cannot read {file} ({error}); give the {kind}'s number"))?;
    find_id(&String::from_utf8_lossy(&names), text).ok_or_else(|| {
        format!(
            "no such {kind} in {file}; for one from elsewhere give its number, which `getent` shows"
        )
    })
}

/// The number of a name: both files have it in the third field
/// (`passwd(5)`, `group(5)`).
fn find_id(names: &str, name: &str) -> Option<u32> {
    names.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then_some(())?;
        fields.nth(1)?.parse().ok()
    })
}

fn parse_ring(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(bytes) if bytes.is_power_of_two() && RING_SIZES.contains(&bytes) => Ok(bytes),
        _ => Err(format!(
            "not a power of two from {} to {}",
            RING_SIZES.start(),
            RING_SIZES.end()
        )),
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
        assert_eq!(find_id(file, "staff"), Some(50));
        assert_eq!(find_id(file, "root"), Some(0));
        for missing in ["", "sta", "broken", "odd", "x"] {
            assert_eq!(find_id(file, missing), None, "{missing}");
        }
        assert_eq!(parse_group("1234"), Ok(1234));
        assert!(parse_group("4294967295").is_err());
        assert!(parse_group("no such group").is_err());
        assert!(parse_group("").is_err());
    }

    #[test]
    fn rings() {
        assert_eq!(parse_ring("4096"), Ok(4096));
        assert_eq!(parse_ring("16777216"), Ok(observer::MAX_RING_BYTES));
        for bad in ["0", "2048", "5000", "33554432", "x"] {
            assert!(parse_ring(bad).is_err(), "{bad}");
        }
    }
}
