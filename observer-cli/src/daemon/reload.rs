//! Changes of the configuration while the observer runs: all that can change,
//! or nothing.

use std::time::Duration;

use super::Daemon;
use crate::Command;
use crate::config::{Change, Loaded};
use crate::failure::explain;
use crate::flags::{CHANGE_WHILE_RUNNING, Run};
use crate::log::Filter;

/// What was read when SIGHUP came, or why it is refused.
pub(crate) type Reload = Result<Box<Loaded>, String>;

/// What becomes of the new settings.
struct Changes {
    /// In force from now on.
    now: Vec<Change>,
    /// What to log then.
    filter: Filter,
    /// Only after a restart.
    later: Vec<Change>,
    /// How many agents no longer may be any.
    forgotten: usize,
}

impl Daemon {
    /// Takes over what was read, and reports it.
    pub(super) fn reload(&mut self, read: Reload) {
        match read.and_then(|loaded| self.take_over(*loaded)) {
            Ok(changes) => {
                self.report(&changes);
                self.set_filter(&changes);
                self.log.write_line(format_args!("reloaded"));
            }
            Err(reason) => tracing::error!("SIGHUP: nothing is changed: {reason}"),
        }
    }

    fn take_over(&mut self, loaded: Loaded) -> Result<Changes, String> {
        let Loaded { command, effective } = loaded;
        let Command::Run(run) = command else {
            return Err("that is another command's".into());
        };
        let changes = self.effective.changes(&effective).into_iter();
        let (now, later): (Vec<_>, Vec<_>) =
            changes.partition(|change| CHANGE_WHILE_RUNNING.contains(&&*change.flag));
        let forgotten = self.apply(&run).map_err(|error| explain(&error))?;
        for change in &now {
            self.effective.take(&change.flag, &effective);
        }
        Ok(Changes {
            now,
            filter: run.log().clone(),
            later,
            forgotten,
        })
    }

    /// Sets what may have changed of the observer; returns how many agents no
    /// longer may be any. Only the first step can fail: what the other needs was
    /// checked with the flags. A name may stand for another number than before.
    fn apply(&mut self, run: &Run) -> anyhow::Result<usize> {
        let observer = &mut self.pipeline.observer;
        let forgotten = observer.set_senders(run.senders())?;
        observer.set_threshold(Duration::from_millis(run.threshold_ms()))?;
        Ok(forgotten)
    }

    /// After the report, which the new one may leave out.
    fn set_filter(&self, changes: &Changes) {
        if let Err(error) = self.log.set_filter(&changes.filter) {
            tracing::error!("the log is filtered as before: {error}");
        }
    }

    fn report(&mut self, changes: &Changes) {
        let Changes {
            now,
            filter: _,
            later,
            forgotten,
        } = changes;
        let [now, later] = [now, later].map(|changes| describe(changes));
        if now.is_empty() && later.is_empty() {
            tracing::info!("SIGHUP: the configuration is as before");
            return;
        }
        if !now.is_empty() {
            tracing::info!("SIGHUP: changed: {now}");
            self.pipeline.recorder.record_reload(now);
        }
        if *forgotten > 0 {
            tracing::info!("agents that no longer may be any, and are forgotten: {forgotten}");
        }
        if !later.is_empty() {
            tracing::warn!("SIGHUP: not changed before a restart: {later}");
        }
    }
}

fn describe(changes: &[Change]) -> String {
    let words = |words: &[String]| match words {
        [] => "none".into(),
        words => shorten(words.join(" ")),
    };
    let each = changes.iter().map(|change| {
        let Change {
            name,
            before,
            after,
            ..
        } = change;
        format!("{name} from {} to {}", words(before), words(after))
    });
    each.collect::<Vec<_>>().join(", ")
}

/// For a line of the log and of the trail.
fn shorten(words: String) -> String {
    const MOST: usize = 256;
    match words.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", words.get(..end).unwrap_or_default()),
        None => words,
    }
}
