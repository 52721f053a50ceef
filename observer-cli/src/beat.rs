//! `observer beat`: an agent for trying things out.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, value_parser};
use observer_common::frame::Frame;
use observer_events::event::Status;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::time::{MissedTickBehavior, interval};

use crate::address::parse_address;
use crate::choice::{Choices, choice};
use crate::plain::write_to_stderr;
use crate::signals::Shutdown;

/// A longer interval than a year is a mistake.
const MAX_INTERVAL_MS: u64 = 366 * 24 * 60 * 60 * 1000;

const STATUSES: Choices<Status> = &[
    ("ok", Status::Ok, "The agent works"),
    (
        "degraded",
        Status::Degraded,
        "The agent works, but less well",
    ),
    ("critical", Status::Critical, "The agent is about to fail"),
];

/// `observer beat`
#[derive(Debug, Args)]
pub(crate) struct Beat {
    /// Unix socket of the observer
    #[arg(long, value_name = "PATH", required_unless_present = "udp")]
    socket: Option<PathBuf>,

    /// UDP address of the observer
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_address, conflicts_with = "socket")]
    udp: Option<SocketAddr>,

    /// Time between two beats, in milliseconds
    #[arg(
        long,
        value_name = "MS",
        value_parser = value_parser!(u64).range(1..=MAX_INTERVAL_MS),
        default_value_t = 1000
    )]
    interval_ms: u64,

    /// Number of beats to send. 0: until a signal comes
    #[arg(long, value_name = "N", default_value_t = 0)]
    count: u64,

    /// Status to report
    #[arg(long, value_name = "STATUS", value_parser = choice(STATUSES), default_value = "ok")]
    status: Status,

    /// Payload: a number of the agent's own, which the observer passes on
    #[arg(long, value_name = "N", default_value_t = 0)]
    payload: u32,

    /// Claim to be this process, to see what a forgery looks like at the
    /// observer [default: the true pid]
    #[arg(long, value_name = "PID")]
    claim_pid: Option<u32>,
}

/// Beats until the count is reached or a signal comes.
///
/// # Errors
/// Only where the process itself cannot work. What happens to beats is counted
/// and written to stderr.
pub(crate) fn execute(args: &Beat) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    let mut agent = Agent::new(args);
    runtime.block_on(agent.beat())?;
    let Agent { sent, dropped, .. } = agent;
    write_to_stderr(format_args!("sent {sent}, dropped {dropped}"));
    Ok(if sent == 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

struct Agent<'a> {
    args: &'a Beat,
    start: Instant,
    /// `None` until the observer is there, and again when it has gone.
    socket: Option<Socket>,
    /// Why beats do not arrive at present; written once, when it begins.
    failure: Option<io::ErrorKind>,
    sent: u64,
    dropped: u64,
}

impl<'a> Agent<'a> {
    fn new(args: &'a Beat) -> Self {
        Self {
            args,
            start: Instant::now(),
            socket: None,
            failure: None,
            sent: 0,
            dropped: 0,
        }
    }

    async fn beat(&mut self) -> anyhow::Result<()> {
        let mut shutdown = Shutdown::new()?;
        let mut ticks = interval(Duration::from_millis(self.args.interval_ms));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let last = if self.args.count == 0 {
            u64::MAX
        } else {
            self.args.count
        };
        for nonce in 1..=last {
            tokio::select! {
                _ = shutdown.requested() => break,
                _ = ticks.tick() => self.once(nonce),
            }
        }
        Ok(())
    }

    fn once(&mut self, nonce: u64) {
        let result = self.send(&self.frame(nonce).encode());
        let counter = if result.is_ok() {
            &mut self.sent
        } else {
            &mut self.dropped
        };
        *counter = counter.saturating_add(1);
        match result {
            Ok(()) => self.recovered(),
            Err(error) => self.failed(&error),
        }
    }

    fn frame(&self, nonce: u64) -> Frame {
        let since_start = self.start.elapsed().as_nanos();
        Frame {
            status: self.args.status,
            pid: self.args.claim_pid.unwrap_or_else(std::process::id),
            timestamp: u64::try_from(since_start).unwrap_or_default(),
            nonce,
            payload: self.args.payload,
        }
    }

    /// Sends without waiting; connects first where that is needed.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.connect()?,
        };
        let result = socket.send(bytes);
        // A full queue is not the connection's end. Anything else may be: a
        // restarted observer has another socket at the same path.
        if result
            .as_ref()
            .map_or_else(|error| error.kind() == io::ErrorKind::WouldBlock, |_| true)
        {
            self.socket = Some(socket);
        }
        result.map(|_| ())
    }

    fn connect(&self) -> io::Result<Socket> {
        let (domain, address) = match (&self.args.udp, &self.args.socket) {
            (Some(address), _) => (Domain::for_address(*address), SockAddr::from(*address)),
            (None, path) => {
                let path = path.as_deref().unwrap_or("".as_ref());
                (Domain::UNIX, SockAddr::unix(path)?)
            }
        };
        let socket = Socket::new(domain, Type::DGRAM.cloexec().nonblocking(), None)?;
        socket.connect(&address)?;
        Ok(socket)
    }

    fn recovered(&mut self) {
        if self.failure.take().is_some() {
            write_to_stderr(format_args!(
                "beats are sent again, {} were dropped",
                self.dropped
            ));
        }
    }

    fn failed(&mut self, error: &io::Error) {
        if self.failure.replace(error.kind()) != Some(error.kind()) {
            let target = match (&self.args.udp, &self.args.socket) {
                (Some(address), _) => format!("udp {address}"),
                (None, path) => path.clone().unwrap_or_default().display().to_string(),
            };
            write_to_stderr(format_args!(
                "cannot send to {target}: {error}; {}; trying again at the next beat",
                advice(error.kind())
            ));
        }
    }
}

/// What the error means here, and what to do.
fn advice(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::WouldBlock => {
            "the observer's queue is full; give it a longer one (sysctl net.unix.max_dgram_qlen \
             before it starts) or beat less often"
        }
        io::ErrorKind::NotFound => "there is no socket; start the observer, or check the path",
        io::ErrorKind::ConnectionRefused => "no observer listens there; start it",
        io::ErrorKind::PermissionDenied => {
            "start the observer with --socket-mode 0660 and --socket-group with a group of yours, \
             and check that you may enter the directory"
        }
        io::ErrorKind::InvalidInput => {
            "this cannot be the path of a socket: it is too long or empty"
        }
        _ => "check that it is the socket of an observer",
    }
}
