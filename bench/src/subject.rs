//! What is compared: floors, varta-watch, and the observer.
//!
//! **varta-watch 0.2.0** is the published crate, as `cargo install --locked`
//! builds it, once with its default features and once with
//! `prometheus-exporter`. It runs with its defaults but for what would make
//! the comparison one of limits: no rate limits (`--max-beat-rate 0`,
//! `--global-beat-rate 0`; by default it drops what exceeds 100 beats a second
//! of a process and 5000 of all), room for as many agents as it can hold
//! (`--tracker-capacity 4096`, its maximum; the default is 256), and a
//! threshold of a day. In the flood its limits are its defaults.
//!
//! Its binary reports a beat with `--export-file` only. Where each beat has to be
//! reported, that file is `/dev/stdout`, a pipe to the
//! benchmark, with `--export-file-sync-every 1`: without that it keeps lines
//! to itself until 8 KiB are full. The `fdatasync` that comes with it fails at
//! once on a pipe (EINVAL), which it takes note of and nothing else; it costs
//! a system call a beat. Where all is to be on and nobody reads, the file is
//! `/dev/null`, with its usual buffer.
//!
//! **The observer** is the release binary with `--attest require`. "Bare" is
//! `--events notable` and no limit of the rate of beats; "full" adds the audit
//! trail, metrics at a TCP port as varta-watch has them, and a JSON line for
//! every event. Nobody scrapes either of the two. A **baseline** is another
//! release binary of it, such as one of the tree before a change.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::plan::Args;

/// An agent is never silent for that long, unless stalls are the point: a day.
pub const NEVER_MS: u64 = 24 * 60 * 60 * 1000;

/// Where both serve metrics, in a network namespace of our own.
const METRICS: &str = "127.0.0.1:9464";

/// One of the receivers that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// A loop around `recvmsg`.
    Recvmsg,
    /// A loop around `recvmmsg`.
    Recvmmsg,
    /// A loop around `recvmsg` that writes a line for each datagram.
    RecvmsgLine,
    /// varta-watch, default features.
    Varta,
    /// varta-watch with its metrics.
    VartaMetrics,
    /// The observer, one of its two ways in.
    Observer(Ingest, Extras),
    /// Another build of it, bare.
    Baseline(Ingest),
}

/// How datagrams reach the observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ingest {
    Socket,
    Ring,
}

/// What the observer does besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Extras {
    Bare,
    /// Audit, metrics, and JSON of every event.
    Full,
    /// Bare, and forgeries are refused in the kernel.
    Refuse,
}

/// What becomes of a receiver's reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reports {
    /// Nobody reads them, and no beat is reported that need not be.
    Nobody,
    /// Each event is a line in a pipe that we read.
    Pipe,
    /// What is out of the ordinary is; beats are not, if that can be had.
    Notable,
}

/// How to start a receiver.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub reports: Reports,
    /// Silence that counts as a stall.
    pub threshold_ms: u64,
    /// Whether beats may come as often as they like.
    pub unlimited: bool,
}

impl Subject {
    /// All, as they take turns.
    pub const ALL: [Self; 10] = [
        Self::Recvmsg,
        Self::Recvmmsg,
        Self::Varta,
        Self::VartaMetrics,
        Self::Observer(Ingest::Socket, Extras::Bare),
        Self::Observer(Ingest::Socket, Extras::Full),
        Self::Observer(Ingest::Ring, Extras::Bare),
        Self::Observer(Ingest::Ring, Extras::Full),
        Self::Baseline(Ingest::Socket),
        Self::Baseline(Ingest::Ring),
    ];

    /// Those that are compared at a pace, as they take turns: first what the
    /// observing costs, and then with a line for each beat.
    pub const PACED: [(Self, Reports); 12] = [
        (Self::Recvmsg, Reports::Nobody),
        (Self::Varta, Reports::Nobody),
        (
            Self::Observer(Ingest::Socket, Extras::Bare),
            Reports::Nobody,
        ),
        (Self::Baseline(Ingest::Socket), Reports::Nobody),
        (Self::Observer(Ingest::Ring, Extras::Bare), Reports::Nobody),
        (Self::Baseline(Ingest::Ring), Reports::Nobody),
        (Self::RecvmsgLine, Reports::Pipe),
        (Self::Varta, Reports::Pipe),
        (Self::Observer(Ingest::Socket, Extras::Bare), Reports::Pipe),
        (Self::Baseline(Ingest::Socket), Reports::Pipe),
        (Self::Observer(Ingest::Ring, Extras::Bare), Reports::Pipe),
        (Self::Observer(Ingest::Socket, Extras::Full), Reports::Pipe),
    ];

    /// Those of the flood.
    pub const FLOODED: [Self; 4] = [
        Self::Varta,
        Self::Observer(Ingest::Socket, Extras::Bare),
        Self::Observer(Ingest::Ring, Extras::Bare),
        Self::Observer(Ingest::Socket, Extras::Refuse),
    ];

    /// As the tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Recvmsg => "floor: recvmsg",
            Self::Recvmmsg => "floor: recvmmsg",
            Self::RecvmsgLine => "floor: recvmsg, write",
            Self::Varta => "varta-watch",
            Self::VartaMetrics => "varta-watch, metrics",
            Self::Observer(Ingest::Socket, Extras::Bare) => "observer, socket",
            Self::Observer(Ingest::Socket, Extras::Full) => "observer, socket, full",
            Self::Observer(Ingest::Socket, Extras::Refuse) => "observer, socket, --refuse kernel",
            Self::Observer(Ingest::Ring, Extras::Bare) => "observer, ring",
            Self::Observer(Ingest::Ring, Extras::Full) => "observer, ring, full",
            Self::Observer(Ingest::Ring, Extras::Refuse) => "observer, ring, --refuse kernel",
            Self::Baseline(Ingest::Socket) => "baseline, socket",
            Self::Baseline(Ingest::Ring) => "baseline, ring",
        }
    }

    /// Whether it only receives, and knows no agents.
    pub fn is_floor(self) -> bool {
        matches!(self, Self::Recvmsg | Self::Recvmmsg | Self::RecvmsgLine)
    }

    pub fn is_peer(self) -> bool {
        matches!(self, Self::Varta | Self::VartaMetrics)
    }

    pub fn is_observer(self) -> bool {
        matches!(self, Self::Observer(..) | Self::Baseline(_))
    }
}

/// The programs, and what this build of the observer can do.
#[derive(Debug)]
pub struct Programs {
    observer: PathBuf,
    baseline: Option<PathBuf>,
    varta: PathBuf,
    varta_metrics: PathBuf,
    help: String,
}

impl Programs {
    pub fn new(args: &Args) -> Result<Self> {
        let Args {
            observer,
            baseline,
            varta,
            varta_metrics,
            ..
        } = args.clone();
        let programs = [&observer, &varta, &varta_metrics];
        for program in programs.into_iter().chain(&baseline) {
            ensure!(program.is_file(), "no program {}", program.display());
        }
        let help = Command::new(&observer).args(["run", "--help"]).output()?;
        let help = String::from_utf8(help.stdout)?;
        Ok(Self {
            observer,
            baseline,
            varta,
            varta_metrics,
            help,
        })
    }

    /// Whether a subject is to be measured at all.
    pub fn knows(&self, subject: Subject) -> bool {
        self.baseline.is_some() || !matches!(subject, Subject::Baseline(_))
    }

    /// Why there will be no figures of a subject.
    pub fn lacks(&self, subject: Subject) -> Option<String> {
        let Subject::Observer(ingest, extras) = subject else {
            return None;
        };
        let needed = [
            (ingest == Ingest::Ring, "--ingest"),
            (extras == Extras::Refuse, "--refuse"),
        ];
        let missing = needed
            .iter()
            .find(|(needs, flag)| *needs && !self.has(flag));
        missing.map(|(_, flag)| format!("not run: this build has no {flag}"))
    }

    /// A sentence on what this build of the observer lacks, if it lacks
    /// something: without `--events` it reports each beat to `/dev/null` even
    /// where it is bare.
    pub fn notice(&self) -> String {
        let flags = ["--ingest", "--events", "--max-beat-rate", "--refuse"];
        let missing: Vec<&str> = flags.into_iter().filter(|flag| !self.has(flag)).collect();
        if missing.is_empty() {
            return String::new();
        }
        format!(" This build of the observer has no {}.", missing.join(", "))
    }

    fn has(&self, flag: &str) -> bool {
        self.help
            .lines()
            .any(|line| line.trim_start().split(' ').next() == Some(flag))
    }

    /// The command that receives at `socket`; files go to `scratch`.
    pub fn command(
        &self,
        subject: Subject,
        terms: Terms,
        socket: &Path,
        scratch: &Path,
    ) -> Result<Command> {
        match subject {
            Subject::Recvmsg => floor(&[], socket),
            Subject::Recvmmsg => floor(&["--batch"], socket),
            Subject::RecvmsgLine => floor(&["--lines"], socket),
            Subject::Varta => Ok(varta(&self.varta, terms, socket, scratch)),
            Subject::VartaMetrics => {
                let mut command = varta(&self.varta_metrics, terms, socket, scratch);
                command.args(["--prom-addr", METRICS]);
                command.arg("--prom-token-file").arg(token(scratch)?);
                if terms.reports == Reports::Nobody {
                    command.args(["--export-file", "/dev/null"]);
                }
                Ok(command)
            }
            Subject::Baseline(ingest) => {
                let baseline = self.baseline.as_ref().context("no baseline")?;
                let mut command = self.run(baseline, ingest, Extras::Bare, terms);
                command.arg("--socket").arg(socket);
                Ok(command)
            }
            Subject::Observer(ingest, extras) => {
                let mut command = self.run(&self.observer, ingest, extras, terms);
                command.arg("--socket").arg(socket);
                if extras == Extras::Full {
                    self.add_audit(&mut command, scratch)?;
                }
                Ok(command)
            }
        }
    }

    fn run(&self, program: &Path, ingest: Ingest, extras: Extras, terms: Terms) -> Command {
        let mut command = Command::new(program);
        command.args(["run", "--threshold-ms", &terms.threshold_ms.to_string()]);
        command.arg("--json");
        if ingest == Ingest::Ring {
            command.args(["--ingest", "ring"]);
        }
        if extras == Extras::Refuse {
            command.args(["--refuse", "kernel"]);
        }
        if extras == Extras::Full {
            command.args(["--metrics", METRICS]);
        } else if terms.reports != Reports::Pipe && self.has("--events") {
            command.args(["--events", "notable"]);
        }
        if terms.unlimited && self.has("--max-beat-rate") {
            command.args(["--max-beat-rate", "0"]);
        }
        command
    }

    fn add_audit(&self, command: &mut Command, scratch: &Path) -> Result<()> {
        let (key, verify) = (scratch.join("audit.key"), scratch.join("verify.key"));
        let mut keygen = Command::new(&self.observer);
        keygen.args(["audit", "keygen", "--audit-key"]).arg(&key);
        let output = keygen.arg("--verify-key").arg(verify).output()?;
        ensure!(output.status.success(), "keygen: {output:?}");
        command.arg("--audit-key").arg(key);
        command.arg("--audit").arg(scratch.join("audit.jsonl"));
        Ok(())
    }
}

fn floor(flags: &[&str], socket: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("floor").arg("--socket").arg(socket).args(flags);
    Ok(command)
}

fn varta(program: &Path, terms: Terms, socket: &Path, scratch: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["--threshold-ms", &terms.threshold_ms.to_string()]);
    command.arg("--socket").arg(socket);
    if terms.unlimited {
        command.args(["--max-beat-rate", "0", "--global-beat-rate", "0"]);
        command.args(["--tracker-capacity", "4096"]);
    }
    match terms.reports {
        Reports::Nobody => {}
        Reports::Pipe => {
            command.args(["--export-file", "/dev/stdout"]);
            command.args(["--export-file-sync-every", "1"]);
        }
        Reports::Notable => {
            command.arg("--export-file").arg(export_file(scratch));
        }
    }
    command
}

/// Where varta-watch leaves its events if they are read at the end.
pub fn export_file(scratch: &Path) -> PathBuf {
    scratch.join("events.tsv")
}

/// It takes tokens of 64 digits in files of mode 0600.
fn token(scratch: &Path) -> Result<PathBuf> {
    let file = scratch.join("token");
    fs::write(&file, "5a".repeat(32))?;
    fs::set_permissions(&file, Permissions::from_mode(0o600)).context("token")?;
    Ok(file)
}
