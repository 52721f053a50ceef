//! Attackers and victims.

use std::collections::BTreeMap;

use observer_events::exe::ExeId;
use serde::Serialize;

use super::incidents::Incidents;
use super::line::Line;
use super::sender::Sender;
use super::text::{bounded, plain};

/// Victims that are listed with an attacker.
const MAX_VICTIMS: usize = 16;

/// A sender of incidents, and all that is known of it.
#[derive(Clone, Debug, Serialize)]
pub struct Attacker {
    /// Who it is.
    #[serde(flatten)]
    pub sender: Sender,
    /// Name of the task that sent (`comm`); it can change it at will.
    pub comm: Option<String>,
    /// What it executed, read from /proc after the fact, unless it was known to
    /// execute another file by then.
    pub exe: Option<String>,
    /// The same file by device and inode, from the kernel's record.
    pub exe_id: Option<ExeId>,
    /// Its container, or else its systemd unit or its cgroup.
    pub container: Option<String>,
    /// What it did.
    #[serde(flatten)]
    pub occurrences: Occurrences,
    /// The pids that it claimed, and how often.
    pub victims: BTreeMap<u32, u64>,
    /// Incidents with further claims.
    pub more_victims: u64,
}

impl Attacker {
    pub(super) fn new(sender: &Sender) -> Self {
        Self {
            sender: sender.clone(),
            comm: None,
            exe: None,
            exe_id: None,
            container: None,
            occurrences: Occurrences::default(),
            victims: BTreeMap::new(),
            more_victims: 0,
        }
    }

    /// The claimed pids as text, and in brackets what the attacker is.
    #[must_use]
    pub fn victims(&self) -> String {
        let mut words: Vec<String> = self.victims.keys().map(u32::to_string).collect();
        if self.more_victims > 0 {
            words.push("...".into());
        }
        let exe_id = self.exe_id.map(|exe| exe.to_string());
        let exe = self.exe.as_ref().or(exe_id.as_ref());
        let about: Vec<String> = [self.comm.as_ref(), exe, self.container.as_ref()]
            .into_iter()
            .flatten()
            .map(|text| plain(text))
            .collect();
        format!("{}  [{}]", words.join(","), about.join(" "))
    }

    /// Takes over what the line has of the sender, where nothing is known yet.
    pub(super) fn learn(&mut self, line: &Line) {
        let known = |text: &Option<String>| text.as_deref().map(bounded);
        let sender = line.sender.as_ref();
        self.comm = self.comm.take().or_else(|| known(&sender?.comm));
        self.exe = self
            .exe
            .take()
            .or_else(|| line.process.as_ref()?.exe_of_sender().map(bounded));
        self.exe_id = self.exe_id.or_else(|| sender?.exe);
        self.container = self
            .container
            .take()
            .or_else(|| line.container.as_ref()?.name());
    }

    /// Adds what one line reports. Returns whether the victim is a new one of
    /// this attacker.
    pub(super) fn add(&mut self, incidents: &Incidents<'_>) -> bool {
        self.occurrences.add(incidents);
        self.learn(incidents.line);
        let Some(victim) = incidents.victim else {
            if !incidents.is_one_claim {
                self.more_victims = self.more_victims.saturating_add(incidents.count);
            }
            return false;
        };
        let is_known = self.victims.contains_key(&victim);
        let is_listed = is_known || self.victims.len() < MAX_VICTIMS;
        let count = if is_listed {
            self.victims.entry(victim).or_default()
        } else {
            &mut self.more_victims
        };
        *count = count.saturating_add(incidents.count);
        is_listed && !is_known
    }
}

/// A process that others claimed to be.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Victim {
    /// The pid that was claimed; `None`: several, or none.
    pub pid: Option<u32>,
    /// In which boot of the host, counted from 1 in this trail.
    pub boot: u32,
    /// What was done in its name.
    #[serde(flatten)]
    pub occurrences: Occurrences,
    /// By how many attackers, at least: with each only so many victims are
    /// listed.
    pub attackers: u64,
}

impl Victim {
    /// The victim as text.
    #[must_use]
    pub fn name(&self) -> String {
        self.pid
            .map_or_else(|| "several or none".into(), |pid| format!("pid {pid}"))
    }
}

/// How often something was done, when, and how.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Occurrences {
    /// How many incidents.
    pub count: u64,
    /// When the first was (RFC 3339).
    pub first: String,
    /// When the last was (RFC 3339).
    pub last: String,
    /// How many of each kind.
    pub kinds: BTreeMap<&'static str, u64>,
}

impl Occurrences {
    pub(super) fn add(&mut self, incidents: &Incidents<'_>) {
        let Incidents {
            count,
            first,
            last,
            how,
            ..
        } = *incidents;
        self.count = self.count.saturating_add(count);
        if self.first.is_empty() || first < self.first.as_str() {
            self.first = bounded(first);
        }
        if last > self.last.as_str() {
            self.last = bounded(last);
        }
        let kind = self.kinds.entry(how).or_default();
        *kind = kind.saturating_add(count);
    }

    /// The kinds and their counts as text.
    #[must_use]
    pub fn how(&self) -> String {
        let kinds: Vec<String> = self
            .kinds
            .iter()
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        kinds.join(", ")
    }
}
