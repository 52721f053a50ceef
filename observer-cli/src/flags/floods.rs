//! How much senders may send, and how fast it is read.

use std::time::Duration;

use clap::{Args, value_parser};
use observer::{Builder, DEFAULT_MAX_BEAT_RATE, DEFAULT_POLL_INTERVAL, Ingest, Refuse};

use crate::choice::{Choices, choice};
use crate::priority::Priority;

/// With more than a second beats would look like stalls.
const MAX_POLL_INTERVAL_US: u64 = 1_000_000;
#[expect(clippy::cast_possible_truncation, reason = "it is a thousand")]
const DEFAULT_POLL_INTERVAL_US: u64 = DEFAULT_POLL_INTERVAL.as_micros() as u64;

const INGESTS: Choices<Ingest> = &[
    (
        "socket",
        Ingest::Socket,
        "By the socket's queue. Each is joined with its kernel record",
    ),
    (
        "ring",
        Ingest::Ring,
        "By the ring of kernel records, past the socket and its short queue. This costs least \
         for agents and observer. Forged `SCM_CREDENTIALS` have no effect then, and are not reported",
    ),
];

const REFUSES: Choices<Refuse> = &[
    (
        "user",
        Refuse::User,
        "The observer, after it has received the datagram",
    ),
    (
        "kernel",
        Refuse::Kernel,
        "The kernel, before the datagram takes a place in the socket's queue. It is reported all \
         the same",
    ),
];

#[derive(Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Floods and limits")]
pub(crate) struct Flags {
    /// Datagrams a second that one process may send, to the socket or by UDP,
    /// and twice as many at once. The kernel drops what exceeds it. 0: no
    /// limit
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_BEAT_RATE)]
    max_beat_rate: u32,

    /// The same for all processes of a user together that are not agents, and
    /// for those of a cgroup [default: ten times --max-beat-rate]
    #[arg(long, value_name = "N", hide_short_help = true)]
    max_group_rate: Option<u32>,

    /// How beats sent to the socket reach the observer
    #[arg(long, value_name = "WAY", value_parser = choice(INGESTS), default_value = "socket")]
    ingest: Ingest,

    /// Who refuses a beat on the socket that claims to be from another
    /// process
    #[arg(long, value_name = "WHO", value_parser = choice(REFUSES), default_value = "user")]
    refuse: Refuse,

    /// Allow --ingest ring and --refuse kernel where a security module decides
    /// who may send to Unix sockets. It does not see datagrams that the eBPF
    /// program takes or refuses
    #[arg(long)]
    over_lsm: bool,

    /// How soon the observer gets a CPU
    #[arg(long, value_name = "PRIORITY", value_enum, default_value_t = Priority::High)]
    pub(crate) priority: Priority,

    /// Poll interval: time between two looks at the ring while it delivers
    /// many beats, in microseconds. For --ingest ring, and for what --refuse
    /// kernel refuses
    #[arg(
        long = "look-us",
        value_name = "US",
        value_parser = value_parser!(u64).range(1..=MAX_POLL_INTERVAL_US),
        default_value_t = DEFAULT_POLL_INTERVAL_US,
        hide_short_help = true
    )]
    poll_interval_us: u64,
}

impl Flags {
    pub(super) fn apply(&self, builder: Builder) -> Builder {
        let Self {
            max_beat_rate,
            max_group_rate,
            ingest,
            refuse,
            over_lsm,
            priority: _,
            poll_interval_us,
        } = self;
        let builder = builder
            .max_beat_rate(*max_beat_rate)
            .ingest(*ingest)
            .refuse(*refuse)
            .over_lsm(*over_lsm)
            .poll_interval(Duration::from_micros(*poll_interval_us));
        match *max_group_rate {
            Some(rate) => builder.max_group_rate(rate),
            None => builder,
        }
    }

    /// Whether something is asked for that only the eBPF program can do.
    pub(super) fn needs_program(&self) -> bool {
        self.ingest == Ingest::Ring || self.refuse == Refuse::Kernel
    }

    /// Whether something here has no effect without the eBPF program.
    pub(crate) fn wants_program(&self) -> bool {
        self.needs_program() || self.max_beat_rate > 0
    }
}
