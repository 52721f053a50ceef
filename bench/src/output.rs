//! Reads what a receiver reports while it runs: the observer's JSON lines, or
//! varta-watch's lines with tabs.
//!
//! Both come as fast as twenty thousand a second, and the reader shares two
//! cores with all the rest. So it looks for the few fields that it needs where
//! they are, and takes no line apart that it does not need.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::thread::{self, JoinHandle};

use anyhow::{Result, anyhow};
use nix::fcntl::{FcntlArg, fcntl};

use crate::clock;

/// Wide enough for what is reported in 100 ms at 20,000 beats a second. The
/// kernel's maximum for those without privilege (`fs.pipe-max-size`).
const PIPE_BYTES: i32 = 1 << 20;

/// All that was reported.
#[derive(Debug, Default)]
pub struct Reported {
    /// Beats.
    pub beats: u64,
    /// Beats by agent, if they were read at the end.
    pub beats_of: HashMap<u32, u64>,
    /// How long each beat took from its send until it was read here.
    pub latencies_ns: Vec<u64>,
    /// Which agent was reported as stalled, and when that was read here.
    pub stalls: Vec<(u32, u64)>,
    /// Payloads that are no frames.
    pub decode_errors: u64,
    /// Claims that do not hold.
    pub forgeries: u64,
}

/// A thread that reads until the pipe's last writer is gone.
pub struct Reader(JoinHandle<Result<Reported>>);

impl Reader {
    pub fn start(pipe: impl Read + AsFd + Send + 'static) -> Result<Self> {
        fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES))?;
        Ok(Self(thread::spawn(move || read_all(pipe))))
    }

    pub fn join(self) -> Result<Reported> {
        self.0.join().map_err(|_| anyhow!("the reader panicked"))?
    }
}

/// Whatever one read brings was reported by then.
fn read_all(mut pipe: impl Read) -> Result<Reported> {
    let mut reported = Reported::default();
    let mut buffer = vec![0; 1 << 16];
    let mut rest = Vec::new();
    loop {
        let length = pipe.read(&mut buffer)?;
        if length == 0 {
            return Ok(reported);
        }
        let now_ns = clock::now_ns();
        rest.extend_from_slice(&buffer[..length]);
        let whole = rest.iter().rposition(|&byte| byte == b'\n');
        let Some(end) = whole.map(|last| last + 1) else {
            continue;
        };
        for line in rest[..end].split(|&byte| byte == b'\n') {
            reported.line(line, now_ns);
        }
        rest.drain(..end);
    }
}

impl Reported {
    /// Reads a file of varta-watch's, which does not have the times of reports.
    pub fn read(&mut self, file: &Path) -> Result<()> {
        for line in BufReader::new(File::open(file)?).split(b'\n') {
            let line = line?;
            if let Some(pid) = self.columns(&line, 0) {
                *self.beats_of.entry(pid).or_default() += 1;
            }
        }
        self.latencies_ns.clear();
        Ok(())
    }

    fn line(&mut self, line: &[u8], now_ns: u64) {
        if line.starts_with(b"{") {
            self.json(line, now_ns);
        } else {
            self.columns(line, now_ns);
        }
    }

    /// The observer's: `{"event":"beat","pid":1,...,"payload":2,...}`.
    fn json(&mut self, line: &[u8], now_ns: u64) {
        if line.starts_with(br#"{"event":"beat""#) {
            let sent = number_after(line, br#""payload":"#).expect("a beat has a payload");
            self.beat(sent, now_ns);
        } else if line.starts_with(br#"{"event":"stall""#) {
            let pid = number_after(line, br#""pid":"#).expect("a stall has a pid");
            self.stalls.push((pid, now_ns));
        } else if line.starts_with(br#"{"event":"decode""#) {
            self.decode_errors += 1;
        } else if line.starts_with(br#"{"event":"auth_failure""#) {
            self.forgeries += 1;
        }
    }

    /// varta-watch's: `observer_ns kind pid nonce status payload`, with tabs.
    /// Returns the pid of a beat.
    fn columns(&mut self, line: &[u8], now_ns: u64) -> Option<u32> {
        let mut columns = line.split(|&byte| byte == b'\t');
        let (kind, pid) = (columns.nth(1)?, columns.next()?);
        match kind {
            b"beat" => {
                self.beat(number(columns.nth(2)?)?, now_ns);
                return number(pid);
            }
            b"stall" => self.stalls.push((number(pid)?, now_ns)),
            b"decode" => self.decode_errors += 1,
            b"mismatch" => self.forgeries += 1,
            _ => {}
        }
        None
    }

    fn beat(&mut self, sent: u32, now_ns: u64) {
        self.beats += 1;
        self.latencies_ns.push(clock::since(sent, now_ns));
    }
}

fn number_after(line: &[u8], name: &[u8]) -> Option<u32> {
    let at = line.windows(name.len()).position(|part| part == name)?;
    number(&line[at + name.len()..])
}

/// The digits that this begins with.
fn number(text: &[u8]) -> Option<u32> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit());
    let digits = &text[..end.unwrap_or(text.len())];
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_lines_are_understood() {
        let mut reported = Reported::default();
        let lines: [&[u8]; 5] = [
            br#"{"event":"beat","pid":7,"status":"ok","payload":1,"nonce":2}"#,
            br#"{"event":"stall","pid":8,"last_nonce":5}"#,
            b"10\tbeat\t7\t2\tok\t1",
            b"10\tstall\t9\t2\tstall\t-",
            b"10\tmismatch\t9\t-\t-\tauth_failure",
        ];
        for line in lines {
            reported.line(line, 6400);
        }
        assert_eq!(reported.beats, 2);
        assert_eq!(reported.latencies_ns, [6336, 6336]);
        assert_eq!(reported.stalls, [(8, 6400), (9, 6400)]);
        assert_eq!(reported.forgeries, 1);
    }
}
