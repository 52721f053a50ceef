//! The state of the live view, and what keys do to it.

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::control::MAX_ROWS;
use crate::daemon_status::DaemonStatus;
use crate::describe::known;

/// The state of the view.
pub(super) struct App {
    /// The last status.
    pub(super) status: Option<DaemonStatus>,
    /// Beats a second between the last two statuses.
    pub(super) rate: Option<f64>,
    /// Why the last request failed.
    pub(super) failure: Option<String>,
    pub(super) paused: bool,
    /// The first agent that is shown.
    pub(super) first: usize,
    /// How many agents fit, as the last drawing found.
    pub(super) fitting: usize,
}

/// What comes after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Stop,
    Continue,
}

/// Agents that are requested before it is known how many fit.
const FIRST_GUESS: usize = 64;

impl App {
    pub(super) fn new() -> Self {
        Self {
            status: None,
            rate: None,
            failure: None,
            paused: false,
            first: 0,
            fitting: FIRST_GUESS,
        }
    }

    /// How many agents to request to fill the view.
    pub(super) fn rows(&self) -> usize {
        self.first.saturating_add(self.fitting)
    }

    /// Whether agents are to be seen that were not requested: the terminal has
    /// grown, or somebody turned the page. What was requested last is so many.
    pub(super) fn lacks_agents(&self, requested: usize) -> bool {
        let known = self
            .status
            .as_ref()
            .map_or(0, |status| known(&status.observer));
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        !self.paused && self.rows().min(known).min(MAX_ROWS) > requested
    }

    /// Takes a new status, or notes why there is none.
    pub(super) fn update(&mut self, result: anyhow::Result<DaemonStatus>) {
        match result {
            Ok(_) if self.paused => self.failure = None,
            Ok(status) => {
                self.rate = self
                    .status
                    .as_ref()
                    .and_then(|before| rate(before, &status));
                self.status = Some(status);
                self.failure = None;
            }
            Err(error) => {
                self.failure = Some(format!("{error:#}"));
                self.rate = None;
            }
        }
    }

    /// Does what a key stands for.
    pub(super) fn handle(&mut self, event: &Event) -> Next {
        let Event::Key(KeyEvent {
            code,
            modifiers,
            kind: KeyEventKind::Press | KeyEventKind::Repeat,
            ..
        }) = *event
        else {
            return Next::Continue;
        };
        let page = self.fitting.max(1);
        match code {
            KeyCode::Char('q') | KeyCode::Esc => return Next::Stop,
            KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => return Next::Stop,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Down | KeyCode::Char('j') => self.first = self.first.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.first = self.first.saturating_sub(1),
            KeyCode::PageDown => self.first = self.first.saturating_add(page),
            KeyCode::PageUp => self.first = self.first.saturating_sub(page),
            KeyCode::Home | KeyCode::Char('g') => self.first = 0,
            _ => {}
        }
        Next::Continue
    }
}

/// Beats a second between two statuses of the same observer.
#[expect(clippy::cast_precision_loss, reason = "it is shown in whole beats")]
fn rate(before: &DaemonStatus, after: &DaemonStatus) -> Option<f64> {
    if before.started != after.started {
        return None;
    }
    let (before, after) = (&before.observer, &after.observer);
    let ns = after.observer_ns.checked_sub(before.observer_ns)?;
    let beats = after.counters.beats.checked_sub(before.counters.beats)?;
    (ns > 0).then(|| beats as f64 * 1e9 / ns as f64)
}

#[cfg(test)]
mod tests {
    use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    use super::*;

    fn press(app: &mut App, code: KeyCode) -> Next {
        app.handle(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
    }

    #[test]
    fn keys_scroll_pause_and_stop() {
        let mut app = App::new();
        app.fitting = 10;
        for code in [KeyCode::PageDown, KeyCode::Down, KeyCode::Down, KeyCode::Up] {
            assert_eq!(press(&mut app, code), Next::Continue);
        }
        assert_eq!((app.first, app.rows()), (11, 21));
        press(&mut app, KeyCode::PageUp);
        press(&mut app, KeyCode::PageUp);
        assert_eq!(app.first, 0);
        press(&mut app, KeyCode::Char('p'));
        assert!(app.paused);
        assert_eq!(press(&mut app, KeyCode::Char('c')), Next::Continue);
        assert_eq!(press(&mut app, KeyCode::Char('q')), Next::Stop);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(app.handle(&Event::Key(interrupt)), Next::Stop);
    }
}
