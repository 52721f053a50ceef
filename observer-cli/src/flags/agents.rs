//! Who may be an agent, and when it counts as stalled.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, value_parser};
use observer::{Builder, DEFAULT_MAX_AGENTS, Namespaces, OriginPolicy, Senders};

use crate::choice::{Choices, choice};
use crate::ids::{parse_group, parse_user};

/// A threshold of more than a year is a mistake.
const MAX_THRESHOLD_MS: u64 = 366 * 24 * 60 * 60 * 1000;
const MAX_AGENTS: u64 = 1 << 20;

const NAMESPACES: Choices<Namespaces> = &[
    (
        "refuse",
        Namespaces::Refuse,
        "Report their beats as namespace conflicts",
    ),
    (
        "translate",
        Namespaces::Translate,
        "Accept the pid that an agent has in its own namespace, and track it by the pid that \
         the observer sees. Needs tier btf",
    ),
];

const ORIGIN_POLICIES: Choices<OriginPolicy> = &[
    (
        "first",
        OriginPolicy::First,
        "The origin of its first beat; beats of another origin are origin conflicts",
    ),
    (
        "strongest",
        OriginPolicy::Strongest,
        "A kernel-attested beat takes the agent over from an unverified origin",
    ),
];

#[derive(Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Agents")]
pub(super) struct Flags {
    /// Unix datagram socket to receive beats at. It is created at the start
    /// and removed at the end
    #[arg(long, value_name = "PATH")]
    pub(super) socket: PathBuf,

    /// Silence after which an agent counts as stalled, in milliseconds
    #[arg(long, value_name = "MS", value_parser = value_parser!(u64).range(1..=MAX_THRESHOLD_MS))]
    pub(super) threshold_ms: u64,

    /// Permissions of the socket, in octal, at most 0777. Whoever may write
    /// to it may send beats
    #[arg(long, value_name = "OCTAL", value_parser = parse_mode, default_value = "0600")]
    pub(super) socket_mode: u32,

    /// Group of the socket: a number, or a name in /etc/group [default: the
    /// observer's own]
    #[arg(long, value_name = "NAME|GID", value_parser = parse_group)]
    socket_group: Option<u32>,

    /// User whose processes may be agents: a number, or a name in
    /// /etc/passwd. May be given several times. Needs tier btf [default:
    /// everyone who may write to the socket]
    #[arg(long, value_name = "NAME|UID", value_parser = parse_user)]
    allow_uid: Vec<u32>,

    /// Group whose processes may be agents, likewise. A process needs to be
    /// on one of the two lists only
    #[arg(long, value_name = "NAME|GID", value_parser = parse_group)]
    allow_gid: Vec<u32>,

    /// How many agents are known at the same time, stalled ones included
    #[arg(
        long,
        value_name = "N",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_AGENTS),
        default_value_t = DEFAULT_MAX_AGENTS
    )]
    max_agents: usize,

    /// What to do with agents in pid namespaces below the observer's
    #[arg(long, value_name = "POLICY", value_parser = choice(NAMESPACES), default_value = "refuse")]
    pub(super) namespaces: Namespaces,

    /// Which origin keeps an agent that beats of several origins claim
    #[arg(long, value_name = "POLICY", value_parser = choice(ORIGIN_POLICIES), default_value = "first")]
    origin_policy: OriginPolicy,
}

impl Flags {
    pub(super) fn apply(&self, builder: Builder) -> Builder {
        let Self {
            socket,
            threshold_ms,
            socket_mode,
            socket_group,
            allow_uid: _,
            allow_gid: _,
            max_agents,
            namespaces,
            origin_policy,
        } = self;
        builder
            .socket(socket)
            .threshold(Duration::from_millis(*threshold_ms))
            .socket_mode(*socket_mode)
            .socket_group(*socket_group)
            .senders(self.senders())
            .max_agents(*max_agents)
            .namespaces(*namespaces)
            .origin_policy(*origin_policy)
    }

    pub(super) fn senders(&self) -> Senders {
        Senders {
            uids: self.allow_uid.clone(),
            gids: self.allow_gid.clone(),
        }
    }
}

fn parse_mode(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| matches!(byte, b'0'..=b'7')) {
        return Err("not an octal number; write it as for chmod, such as 0660".into());
    }
    match u32::from_str_radix(digits, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("permissions are at most 0777".into()),
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
}
