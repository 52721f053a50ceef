//! The flags of `observer run`, each group in a module of its own. They are
//! checked as far as they can be without touching the socket.

mod agents;
mod attestation;
mod audit;
mod floods;
mod general;
mod output;
mod paths;
mod udp;

use std::borrow::Cow;
use std::path::Path;

use clap::Args;
use observer::{AttestMode, Builder, Namespaces, Observer, Senders};
use observer_audit::Options;
use observer_events::event::Via;

pub(crate) use self::output::Output;
pub(crate) use self::paths::Named;

use crate::log::Filter;
use crate::serve;

/// `observer run`
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    agents: agents::Flags,

    #[command(flatten)]
    attestation: attestation::Flags,

    #[command(flatten)]
    pub(crate) floods: floods::Flags,

    #[command(flatten)]
    udp: udp::Flags,

    #[command(flatten)]
    pub(crate) output: Output,

    #[command(flatten)]
    pub(crate) serve: serve::Flags,

    #[command(flatten)]
    audit: audit::Flags,

    #[command(flatten)]
    general: general::Flags,
}

pub(crate) const NOTES: &str = "Events go to stdout, the log to stderr. The line `ready` on \
    stderr says that beats are received from now on. SIGTERM and SIGINT stop the observer: it \
    writes the events of what it has received, and ends. SIGHUP has it read the file of \
    --config again, which ends with the line `reloaded` on stderr, or with one that says why \
    nothing is changed. --socket and --threshold-ms may stand in that file.";

/// The flags whose settings change while the observer runs, once the file of
/// `--config` says something else and SIGHUP comes. The others need a restart.
pub(crate) const CHANGE_WHILE_RUNNING: [&str; 4] =
    ["threshold-ms", "allow-uid", "allow-gid", "log"];

impl Run {
    /// An observer as the flags describe it.
    pub(crate) fn builder(&self) -> Builder {
        let Self {
            agents,
            attestation,
            floods,
            udp,
            output: _,
            serve: _,
            audit: _,
            general: _,
        } = self;
        let mut builder = Observer::builder();
        builder = agents.apply(builder);
        builder = attestation.apply(builder);
        builder = floods.apply(builder);
        udp.apply(builder)
    }

    /// Why these flags cannot be used together.
    pub(crate) fn contradiction(&self) -> Option<Cow<'static, str>> {
        let reason = match (self.attestation.attest, self.attestation.tier) {
            (AttestMode::Require, Some(Via::Scm)) => {
                Some("--tier scm attests nothing: it needs --attest prefer or --attest off")
            }
            (AttestMode::Off, Some(Via::Btf | Via::Helper)) => {
                Some("--attest off uses no eBPF: leave out --tier, or use --attest prefer")
            }
            (AttestMode::Off, _) | (_, Some(Via::Scm)) if self.floods.needs_program() => Some(
                "--ingest ring and --refuse kernel need eBPF, which --attest off and --tier scm \
                 do not use",
            ),
            _ => self
                .output
                .contradiction()
                .or_else(|| self.serve.contradiction()),
        };
        let clash = || paths::clash(self.files()).map(Cow::Owned);
        reason.map(Cow::Borrowed).or_else(clash)
    }

    /// The files that the observer creates.
    fn files(&self) -> impl Iterator<Item = Named<'_>> {
        let socket = ("--socket", self.socket());
        [socket]
            .into_iter()
            .chain(self.serve.sockets())
            .chain(self.audit.files())
    }

    /// Path of the Unix socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.agents.socket
    }

    pub(crate) fn socket_mode(&self) -> u32 {
        self.agents.socket_mode
    }

    pub(crate) fn threshold_ms(&self) -> u64 {
        self.agents.threshold_ms
    }

    /// Who may be an agent.
    pub(crate) fn senders(&self) -> Senders {
        self.agents.senders()
    }

    /// What to log.
    pub(crate) fn log(&self) -> &Filter {
        &self.general.log
    }

    pub(crate) fn translates_namespaces(&self) -> bool {
        self.agents.namespaces == Namespaces::Translate
    }

    /// The cgroup whose processes are attested by UDP, where one is named.
    pub(crate) fn cgroup(&self) -> Option<&Path> {
        self.udp.cgroup.as_deref()
    }

    /// How to keep an audit trail, if one is wanted.
    pub(crate) fn audit_options(&self) -> Option<Options> {
        self.audit.options()
    }
}
