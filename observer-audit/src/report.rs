//! Sums a trail up by attacker and by victim.
//!
//! Nothing is verified here, and nothing is trusted: memory is bounded
//! whatever the files hold, and all text is escaped when shown.

mod display;
mod incidents;
mod line;
mod parties;
mod sender;
mod text;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::BufReader;
use std::path::Path;

use rustix::io::Errno;
use serde::Serialize;

use crate::files::FileError;
use crate::reader::{Lines, Next};
use crate::segments::open;
use crate::sources::{claimed_first, compressor, expand};

use self::incidents::Incidents;
pub use self::line::Line;
pub use self::parties::{Attacker, Occurrences, Victim};
pub use self::sender::Sender;
use self::text::bounded;

/// Attackers, and victims, that are listed at most.
const MAX_LISTED: usize = 10_000;

/// A trail summed up. As JSON its names are a contract: fields may be added,
/// none changes its meaning.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// Lines read.
    pub lines: u64,
    /// Files that are compressed and were not read.
    pub compressed: u64,
    /// Lines that are not of the observer's form.
    pub unreadable: u64,
    /// Incidents, those included that `repeat` lines count.
    pub incidents: u64,
    /// Incidents that the observer lost, by its own account.
    pub lost: u64,
    /// Incidents whose attacker or victim is beyond those listed.
    pub not_listed: u64,
    /// By who really sent, those with the most incidents first.
    pub attackers: Vec<Attacker>,
    /// By who was claimed to have sent, in the same order.
    pub victims: Vec<Victim>,
}

/// Sums up the trail at this path, rotated files included, or in this folder.
///
/// # Errors
/// If a file cannot be read, or there is none.
pub fn summarize(path: &Path) -> Result<Summary, FileError> {
    let mut sums = Sums::default();
    let mut files = Vec::new();
    for file in expand(&[path.to_owned()])? {
        let failed = |error| FileError::new("read", &file, error);
        let opened = open(&file).map_err(failed)?;
        if compressor(&opened).map_err(failed)?.is_some() {
            sums.summary.compressed = sums.summary.compressed.saturating_add(1);
            continue;
        }
        let first = claimed_first(&opened).map_err(failed)?;
        files.push((first.unwrap_or(u64::MAX), file));
    }
    if files.is_empty() {
        return Err(FileError::new("open", path, Errno::NOENT));
    }
    files.sort();
    for (_, file) in files {
        sums.file(&file)?;
    }
    Ok(sums.finish())
}

#[derive(Default)]
struct Sums {
    summary: Summary,
    attackers: HashMap<Sender, Attacker>,
    victims: HashMap<(Option<u32>, u32), Victim>,
    boot: u32,
    boot_id: Option<String>,
}

impl Sums {
    fn file(&mut self, path: &Path) -> Result<(), FileError> {
        let failed = |error| FileError::new("read", path, error);
        let mut lines = Lines::new(BufReader::new(open(path).map_err(failed)?));
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
        let fields = line.sender.clone().unwrap_or_default();
        let sender = Sender::new(&fields, self.boot, None);
        if let Some(attacker) = self.attackers.get_mut(&sender) {
            attacker.learn(line);
        }
    }

    fn add(&mut self, incidents: &Incidents<'_>) {
        self.summary.incidents = self.summary.incidents.saturating_add(incidents.count);
        let sender = incidents.sender(self.boot);
        let is_known = self.attackers.contains_key(&sender);
        let mut is_listed = is_known || self.attackers.len() < MAX_LISTED;
        let mut is_new_pair = false;
        if is_listed {
            let attacker = self
                .attackers
                .entry(sender)
                .or_insert_with_key(Attacker::new);
            is_new_pair = attacker.add(incidents);
            // Without a victim there are no pairs to count.
            is_new_pair |= !is_known && incidents.victim.is_none();
        }
        let key = (incidents.victim, self.boot);
        if self.victims.contains_key(&key) || self.victims.len() < MAX_LISTED {
            let victim = self.victims.entry(key).or_default();
            (victim.pid, victim.boot) = key;
            victim.attackers = victim.attackers.saturating_add(u64::from(is_new_pair));
            victim.occurrences.add(incidents);
        } else {
            is_listed = false;
        }
        if !is_listed {
            self.summary.not_listed = self.summary.not_listed.saturating_add(incidents.count);
        }
    }

    fn finish(self) -> Summary {
        let mut summary = self.summary;
        summary.attackers = self.attackers.into_values().collect();
        summary.victims = self.victims.into_values().collect();
        let by =
            |occurrences: &Occurrences| (Reverse(occurrences.count), occurrences.first.clone());
        summary
            .attackers
            .sort_by_cached_key(|attacker| by(&attacker.occurrences));
        summary
            .victims
            .sort_by_cached_key(|victim| by(&victim.occurrences));
        summary
    }
}
