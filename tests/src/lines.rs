//! Lines that a process writes, as they come.

use std::io::{BufRead as _, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

use crate::observer::PATIENCE;

/// Lines that a thread reads, and makes something of, while others wait for
/// them.
pub(crate) struct Lines<T> {
    lines: Mutex<Vec<T>>,
    more: Condvar,
}

impl<T: Clone + Send + 'static> Lines<T> {
    /// Starts to read; the thread ends with the source.
    pub(crate) fn read(
        source: impl Read + Send + 'static,
        parse: fn(&str) -> T,
    ) -> (Arc<Self>, JoinHandle<()>) {
        let lines = Arc::new(Self {
            lines: Mutex::default(),
            more: Condvar::new(),
        });
        let filled = Arc::clone(&lines);
        let reader = thread::spawn(move || {
            for line in BufReader::new(source).lines() {
                let line = parse(&line.expect("text"));
                filled.lines.lock().unwrap().push(line);
                filled.more.notify_all();
            }
        });
        (lines, reader)
    }

    pub(crate) fn has(&self, fits: impl Fn(&T) -> bool) -> bool {
        self.lines.lock().unwrap().iter().any(fits)
    }

    pub(crate) fn last(&self, fits: impl Fn(&T) -> bool) -> Option<T> {
        let lines = self.lines.lock().unwrap();
        lines.iter().rfind(|line| fits(line)).cloned()
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits until enough lines fit, and returns whether they do. Each line
    /// is looked at once.
    pub(crate) fn wait(&self, enough: usize, fits: impl Fn(&T) -> bool) -> bool {
        let (mut seen, mut found) = (0, 0);
        let (_lines, result) = self
            .more
            .wait_timeout_while(self.lines.lock().unwrap(), PATIENCE, |lines| {
                found += lines[seen..].iter().filter(|line| fits(line)).count();
                seen = lines.len();
                found < enough
            })
            .unwrap();
        !result.timed_out()
    }
}
