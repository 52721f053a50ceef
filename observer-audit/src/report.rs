//! Sums a trail up: who tried, and whom they pretended to be.
//!
//! Nothing is verified here, and nothing is trusted: memory is bounded
//! whatever the files hold, and all text is escaped when shown.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::BufReader;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::files::FileError;
use super::reader::{Lines, Next};
use super::segments::{open, segments};

/// Attackers, and victims, that are listed at most.
const MAX_LISTED: usize = 10_000;
/// Victims that are listed with an attacker.
const MAX_VICTIMS: usize = 16;
/// Longest text taken over from a line, in bytes.
const MAX_TEXT: usize = 512;

/// What a trail says, summed up.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// Lines read.
    pub lines: u64,
    /// Lines that are none of the observer's.
    pub unreadable: u64,
    /// Incidents, counted ones included.
    pub incidents: u64,
    /// Incidents lost by the observer's own account.
    pub lost: u64,
    /// Incidents whose attacker or victim is beyond those listed.
    pub not_listed: u64,
    /// By who really sent, most first.
    pub attackers: Vec<Attacker>,
    /// By who was claimed to have sent, most first.
    pub victims: Vec<Victim>,
}

/// How often, when and how.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tally {
    /// How many incidents.
    pub count: u64,
    /// When the first was (RFC 3339).
    pub first: String,
    /// When the last was.
    pub last: String,
    /// How many of each kind.
    pub kinds: BTreeMap<&'static str, u64>,
}

impl Tally {
    fn add(&mut self, incident: &Incidents<'_>) {
        let Incidents {
            count,
            first,
            last,
            how,
            ..
        } = *incident;
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

/// Who really sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Who {
    /// In the initial pid namespace; `None`: unknown, or several.
    pub host_pid: Option<u32>,
    /// As the observer sees it.
    pub pid: Option<u32>,
    /// With the pid it names a process (nanoseconds since boot).
    pub start_ns: Option<u64>,
    /// Real user id.
    pub uid: Option<u32>,
    /// Which start of the observer, in this trail, it was seen in: pids mean
    /// nothing beyond a boot.
    pub boot: u32,
    /// Its cgroup, where only that and the user are known.
    pub cgroup: Option<String>,
}

/// A process is named by pid and name, a crowd by what it has in common.
impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.host_pid.or(self.pid), &self.cgroup) {
            (Some(pid), _) => write!(f, "pid {pid}")?,
            (None, Some(cgroup)) => write!(f, "several in {}", plain(cgroup))?,
            (None, None) => f.write_str("unknown")?,
        }
        match self.uid {
            Some(uid) => write!(f, " uid {uid}"),
            None => Ok(()),
        }
    }
}

/// An attacker and all that is known of it.
#[derive(Clone, Debug, Serialize)]
pub struct Attacker {
    /// Who it is.
    #[serde(flatten)]
    pub who: Who,
    /// Its name, as it chose.
    pub comm: Option<String>,
    /// What it ran, by /proc after the fact.
    pub exe: Option<String>,
    /// Its container or unit.
    pub container: Option<String>,
    /// What it did.
    #[serde(flatten)]
    pub tally: Tally,
    /// Whom it claimed to be, and how often.
    pub victims: BTreeMap<u32, u64>,
    /// Incidents with further claims.
    pub more_victims: u64,
}

impl Attacker {
    /// Claimed pids as text, and what the attacker is.
    #[must_use]
    pub fn victims(&self) -> String {
        let mut words: Vec<String> = self.victims.keys().map(u32::to_string).collect();
        if self.more_victims > 0 {
            words.push("...".into());
        }
        let about: Vec<String> = [&self.comm, &self.exe, &self.container]
            .into_iter()
            .flatten()
            .map(|text| plain(text))
            .collect();
        format!("{}  [{}]", words.join(","), about.join(" "))
    }

    /// Takes over what the line has of the sender and was not known.
    fn learn(&mut self, line: &Line) {
        let known = |text: &Option<String>| text.as_deref().map(bounded);
        let sender = line.sender.as_ref();
        self.comm = self.comm.take().or_else(|| known(&sender?.comm));
        self.exe = self
            .exe
            .take()
            .or_else(|| known(&line.process.as_ref()?.exe));
        self.container = self
            .container
            .take()
            .or_else(|| line.container.as_ref()?.name());
    }

    /// Adds what one line tells; whether the victim is a new one of this
    /// attacker.
    fn add(&mut self, incident: &Incidents<'_>) -> bool {
        self.tally.add(incident);
        self.learn(incident.line);
        let Some(victim) = incident.victim else {
            if !incident.one_claim {
                self.more_victims = self.more_victims.saturating_add(incident.count);
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
        *count = count.saturating_add(incident.count);
        is_listed && !is_known
    }
}

/// A process that others claimed to be.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Victim {
    /// The pid that was claimed; `None`: several, or none.
    pub pid: Option<u32>,
    /// Which boot of the host, in this trail.
    pub boot: u32,
    /// What was done in its name.
    #[serde(flatten)]
    pub tally: Tally,
    /// By how many attackers, at least: each tells of so many victims only.
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

/// Sums up the trail at this path, rotated files included.
///
/// # Errors
/// If a file cannot be read, or there is none.
pub fn summarize(path: &Path) -> Result<Summary, FileError> {
    let mut sums = Sums::default();
    let files = segments(path)?;
    if files.is_empty() {
        return Err(FileError::new("open", path, std::io::ErrorKind::NotFound));
    }
    for file in files {
        sums.file(&file, path)?;
    }
    Ok(sums.finish())
}

#[derive(Default)]
struct Sums {
    summary: Summary,
    attackers: HashMap<Who, Attacker>,
    victims: HashMap<(Option<u32>, u32), Victim>,
    boot: u32,
    boot_id: Option<String>,
}

impl Sums {
    fn file(&mut self, path: &Path, trail: &Path) -> Result<(), FileError> {
        let failed = |error| FileError::new("read", path, error);
        let mut lines = Lines::new(BufReader::new(open(path, trail).map_err(failed)?));
        loop {
            match lines.advance().map_err(failed)? {
                Next::Line => self.line(lines.line()),
                Next::TooLong | Next::Torn => self.unreadable(),
                Next::End => return Ok(()),
            }
        }
    }

    fn unreadable(&mut self) {
        self.summary.unreadable = self.summary.unreadable.saturating_add(1);
    }

    fn line(&mut self, text: &[u8]) {
        let Some(line) = Line::parse(text) else {
            return self.unreadable();
        };
        self.summary.lines = self.summary.lines.saturating_add(1);
        match line.kind.as_str() {
            "start" => self.start(&line),
            "evidence" => self.evidence(&line),
            "lost" => self.summary.lost = self.summary.lost.saturating_add(line.count),
            _ => {}
        }
        if let Some(incidents) = Incidents::of(&line) {
            self.add(&incidents);
        }
    }

    fn start(&mut self, line: &Line) {
        if self.boot_id != line.boot_id || line.boot_id.is_none() {
            self.boot = self.boot.saturating_add(1);
            self.boot_id = line.boot_id.as_deref().map(bounded);
        }
    }

    /// Adds to what is known of an attacker that is listed.
    fn evidence(&mut self, line: &Line) {
        let sender = line.sender.clone().unwrap_or_default();
        let who = Who::of(&sender, self.boot, None);
        if let Some(attacker) = self.attackers.get_mut(&who) {
            attacker.learn(line);
        }
    }

    fn add(&mut self, incidents: &Incidents<'_>) {
        self.summary.incidents = self.summary.incidents.saturating_add(incidents.count);
        let who = incidents.who(self.boot);
        let is_known = self.attackers.contains_key(&who);
        let mut listed = is_known || self.attackers.len() < MAX_LISTED;
        let mut is_new_pair = false;
        if listed {
            let attacker = self.attackers.entry(who).or_insert_with_key(Attacker::new);
            is_new_pair = attacker.add(incidents);
            // Without a victim there are no pairs to count.
            is_new_pair |= !is_known && incidents.victim.is_none();
        }
        let key = (incidents.victim, self.boot);
        if self.victims.contains_key(&key) || self.victims.len() < MAX_LISTED {
            let victim = self.victims.entry(key).or_default();
            (victim.pid, victim.boot) = key;
            victim.attackers = victim.attackers.saturating_add(u64::from(is_new_pair));
            victim.tally.add(incidents);
        } else {
            listed = false;
        }
        if !listed {
            self.summary.not_listed = self.summary.not_listed.saturating_add(incidents.count);
        }
    }

    fn finish(self) -> Summary {
        let mut summary = self.summary;
        summary.attackers = self.attackers.into_values().collect();
        summary.victims = self.victims.into_values().collect();
        let by = |tally: &Tally| (std::cmp::Reverse(tally.count), tally.first.clone());
        summary
            .attackers
            .sort_by_cached_key(|attacker| by(&attacker.tally));
        summary
            .victims
            .sort_by_cached_key(|victim| by(&victim.tally));
        summary
    }
}

impl Attacker {
    fn new(who: &Who) -> Self {
        Self {
            who: who.clone(),
            comm: None,
            exe: None,
            container: None,
            tally: Tally::default(),
            victims: BTreeMap::new(),
            more_victims: 0,
        }
    }
}

/// One line of a trail, as far as a reader without a key wants to know it.
#[derive(Debug, Deserialize)]
pub struct Line {
    seq: u64,
    time: String,
    kind: String,
    /// The line that evidence is about.
    #[serde(rename = "line")]
    about: Option<u64>,
    cause: Option<String>,
    claimed_pid: Option<u32>,
    sender: Option<Sender>,
    container: Option<Container>,
    process: Option<Process>,
    #[serde(default)]
    count: u64,
    of: Option<String>,
    alike: Option<String>,
    first: Option<String>,
    last: Option<String>,
    sample: Option<Box<Sample>>,
    boot_id: Option<String>,
    reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Sample {
    cause: Option<String>,
    claimed_pid: Option<u32>,
    sender: Option<Sender>,
    container: Option<Container>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Sender {
    pid: Option<u32>,
    host_pid: Option<u32>,
    start_ns: Option<u64>,
    uid: Option<u32>,
    comm: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Container {
    cgroup: Option<String>,
    unit: Option<String>,
    id: Option<String>,
}

impl Container {
    fn name(&self) -> Option<String> {
        let name = self
            .id
            .as_deref()
            .or(self.unit.as_deref())
            .or(self.cgroup.as_deref());
        name.map(bounded)
    }
}

#[derive(Debug, Deserialize)]
struct Process {
    exe: Option<String>,
}

impl Line {
    /// Reads a line without its line feed. `None` if it is not of the
    /// observer's form.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut line: Self = serde_json::from_slice(text).ok()?;
        // What a `repeat` line has of its incidents is in the sample.
        if let Some(sample) = line.sample.take() {
            let Sample {
                cause,
                claimed_pid,
                sender,
                container,
            } = *sample;
            (line.cause, line.claimed_pid) = (cause, claimed_pid);
            (line.sender, line.container) = (sender, container);
        }
        Some(line)
    }
}

/// For reading along: number, time, what, and who.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = self.of.as_deref().unwrap_or(&self.kind);
        write!(f, "{:>8}  {}  {}", self.seq, plain(&self.time), plain(of))?;
        if self.of.is_some() {
            write!(f, " x{} more", self.count)?;
        } else if self.count > 0 {
            write!(f, " {}", self.count)?;
        }
        if let Some(line) = self.about {
            write!(f, " for line {line}")?;
        }
        for text in [&self.cause, &self.reason].into_iter().flatten() {
            write!(f, "  {}", plain(text))?;
        }
        if let Some(pid) = self.claimed_pid {
            write!(f, "  claims {pid}")?;
        }
        if let Some(sender) = &self.sender {
            let verb = if self.cause.as_deref() == Some(CORKED) {
                "sent off by"
            } else {
                "really"
            };
            write!(f, ", {verb} {}", Who::of(sender, 0, None))?;
            if let Some(comm) = &sender.comm {
                write!(f, " ({})", plain(comm))?;
            }
        }
        for text in [
            self.process
                .as_ref()
                .and_then(|process| process.exe.as_deref()),
            self.container
                .as_ref()
                .and_then(|container| container.cgroup.as_deref()),
        ] {
            write!(
                f,
                "{}",
                text.map(|text| format!("  {}", plain(text)))
                    .unwrap_or_default()
            )?;
        }
        Ok(())
    }
}

impl Who {
    fn of(sender: &Sender, boot: u32, cgroup: Option<String>) -> Self {
        Self {
            host_pid: sender.host_pid,
            pid: sender.pid,
            start_ns: sender.start_ns,
            uid: sender.uid,
            boot,
            cgroup,
        }
    }
}

/// What one line adds.
struct Incidents<'a> {
    line: &'a Line,
    how: &'static str,
    count: u64,
    first: &'a str,
    last: &'a str,
    victim: Option<u32>,
    /// Whether they all have one claim, or none.
    one_claim: bool,
    /// Whether they all have one sender.
    one_sender: bool,
}

impl<'a> Incidents<'a> {
    fn of(line: &'a Line) -> Option<Self> {
        let repeat = line.kind == "repeat";
        let kind = line.of.as_deref().filter(|_| repeat).unwrap_or(&line.kind);
        let how = how(kind, line.cause.as_deref())?;
        let alike = line.alike.as_deref().filter(|_| repeat);
        let time = line.time.as_str();
        let one_claim = matches!(alike, None | Some("sender_and_claim"));
        Some(Self {
            line,
            how,
            // An incident in full stands for one, unless it says for how many.
            count: line.count.max(u64::from(!repeat)),
            first: line.first.as_deref().filter(|_| repeat).unwrap_or(time),
            last: line.last.as_deref().filter(|_| repeat).unwrap_or(time),
            // A sender that is refused for its user is who it says.
            victim: line
                .claimed_pid
                .filter(|_| one_claim && kind != "refused_sender"),
            one_claim,
            one_sender: matches!(alike, None | Some("sender_and_claim" | "sender")),
        })
    }

    fn who(&self, boot: u32) -> Who {
        if self.how == CORKED {
            // Its sender sent off what anybody may have put there.
            return Who {
                boot,
                ..Who::default()
            };
        }
        let sender = self.line.sender.clone().unwrap_or_default();
        if self.one_sender {
            return Who::of(&sender, boot, None);
        }
        let cgroup = self
            .line
            .container
            .as_ref()
            .and_then(|container| container.cgroup.as_deref());
        Who {
            uid: sender.uid,
            boot,
            cgroup: Some(bounded(cgroup.unwrap_or("an unknown cgroup"))),
            ..Who::default()
        }
    }
}

/// The cause of an incident whose sender is not its author
/// ([`AuthFailureCause::Corked`](observer_events::event::AuthFailureCause::Corked)).
const CORKED: &str = "corked";

/// The kinds of incident by name; `None`: not an incident.
fn how(kind: &str, cause: Option<&str>) -> Option<&'static str> {
    Some(match (kind, cause) {
        ("auth_failure", Some("pid_mismatch")) => "pid_mismatch",
        ("auth_failure", Some("forged_credentials")) => "forged_credentials",
        ("auth_failure", Some("sqpoll")) => "sqpoll",
        ("auth_failure", Some("unattested")) => "unattested",
        ("auth_failure", Some(CORKED)) => CORKED,
        ("auth_failure", _) => "auth_failure",
        ("namespace_conflict", _) => "namespace_conflict",
        ("origin_conflict", _) => "origin_conflict",
        ("refused_sender", _) => "refused_sender",
        ("throttled_sender", _) => "throttled_sender",
        ("descriptors_refused", _) => "descriptors_refused",
        ("ctrl_truncated", _) => "ctrl_truncated",
        _ => return None,
    })
}

fn bounded(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_TEXT);
    text.get(..end).unwrap_or_default().to_owned()
}

/// Text of any origin for a terminal.
fn plain(text: &str) -> String {
    bounded(text).escape_default().to_string()
}
