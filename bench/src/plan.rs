//! How long and how often everything is measured.

use std::path::PathBuf;
use std::time::Duration;

/// What both comparisons can be given.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The observer's release binary
    #[arg(long, value_name = "FILE")]
    pub observer: PathBuf,

    /// varta-watch, built with its default features
    #[arg(long, value_name = "FILE")]
    pub varta: PathBuf,

    /// varta-watch, built with its metrics
    #[arg(long, value_name = "FILE")]
    pub varta_metrics: PathBuf,

    /// Another release binary of the observer, to be compared with
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,

    /// Compare by these only [default: all]
    #[arg(long, value_name = "TOPIC", value_enum)]
    pub topic: Vec<Topic>,

    /// Folder that the results go to
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,

    /// Rounds, of which the median is taken [default: 3; floods: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: Option<u32>,

    /// How long each flood lasts, in seconds
    #[arg(long, value_name = "S", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=120))]
    pub seconds: u64,

    /// One short round of less: whether it works, not what it costs
    #[arg(long)]
    pub quick: bool,
}

/// One of the comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Topic {
    Saturated,
    Paced,
    Idle,
    Stalls,
}

impl Args {
    pub fn has_topic(&self, topic: Topic) -> bool {
        self.topic.is_empty() || self.topic.contains(&topic)
    }
}

/// What is measured, for how long.
#[derive(Debug)]
pub struct Plan {
    pub is_quick: bool,
    pub rounds: u32,
    /// `net.unix.max_dgram_qlen`.
    pub queues: &'static [u32],
    /// Agents at saturation.
    pub agents: &'static [u32],
    pub saturated: Duration,
    /// Paces, each with the time that it is kept.
    pub paces: &'static [(Pacing, Duration)],
    pub idle: Duration,
    pub flood: Duration,
}

/// Agents, and how often each beats.
#[derive(Clone, Copy, Debug)]
pub struct Pacing {
    pub agents: u32,
    pub period_ms: u32,
}

impl Pacing {
    const fn new(agents: u32, period_ms: u32) -> Self {
        Self { agents, period_ms }
    }

    /// Beats a second of all agents.
    pub fn rate(self) -> u32 {
        self.agents * 1000 / self.period_ms
    }

    pub fn period_ns(self) -> u64 {
        u64::from(self.period_ms) * 1_000_000
    }
}

/// 100, 1,000 and 10,000 beats a second: what hosts have.
const SLOW: Pacing = Pacing::new(10, 100);
const MIDDLE: Pacing = Pacing::new(10, 10);
const FAST: Pacing = Pacing::new(10, 1);

const PACES: [(Pacing, Duration); 3] = [
    (SLOW, Duration::from_secs(4)),
    (MIDDLE, Duration::from_secs(2)),
    (FAST, Duration::from_secs(2)),
];

const QUICK_PACES: [(Pacing, Duration); 1] = [(FAST, Duration::from_millis(400))];

impl Plan {
    pub fn compare(args: &Args) -> Self {
        if args.quick {
            return Self {
                is_quick: true,
                rounds: args.rounds.unwrap_or(1),
                queues: &[10],
                agents: &[1, 256, 4096],
                saturated: Duration::from_millis(200),
                paces: &QUICK_PACES,
                idle: Duration::from_millis(500),
                flood: Duration::ZERO,
            };
        }
        Self {
            is_quick: false,
            rounds: args.rounds.unwrap_or(3),
            queues: &[10, 512],
            agents: &[1, 256, 4096],
            saturated: Duration::from_secs(1),
            paces: &PACES,
            idle: Duration::from_secs(10),
            flood: Duration::ZERO,
        }
    }

    pub fn flood(args: &Args) -> Self {
        let seconds = if args.quick { 1 } else { args.seconds };
        Self {
            rounds: args.rounds.unwrap_or(1),
            queues: if args.quick { &[10] } else { &[10, 512] },
            flood: Duration::from_secs(seconds),
            ..Self::compare(args)
        }
    }
}
