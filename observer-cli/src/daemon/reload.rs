//! Changes of the configuration while the observer runs: all that can change,
//! or nothing.

use std::mem;
use std::time::Duration;

use observer::Senders;
use observer_events::format::Plain;

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
    /// Takes over what was read, and reports it. Whatever the log leaves out, how
    /// it ended is written.
    pub(super) fn reload(&mut self, read: Reload) {
        match read.and_then(|loaded| self.take_over(*loaded)) {
            Ok(changes) => {
                self.report(&changes);
                self.set_filter(&changes);
                self.log.write_line(format_args!("reloaded"));
            }
            Err(reason) => {
                let reason = Plain(reason);
                self.log
                    .write_line(format_args!("SIGHUP: nothing is changed: {reason}"));
            }
        }
    }

    fn take_over(&mut self, loaded: Loaded) -> Result<Changes, String> {
        let Loaded { command, effective } = loaded;
        let Command::Run(run) = command else {
            return Err("that is another command's".into());
        };
        let changes = self.effective.changes(&effective).into_iter();
        let (mut now, later): (Vec<_>, Vec<_>) =
            changes.partition(|change| CHANGE_WHILE_RUNNING.contains(&&*change.flag));
        let forgotten = self.apply(&run).map_err(|error| explain(&error))?;
        for change in &now {
            self.effective.take(&change.flag, &effective);
        }
        let before = mem::replace(&mut self.senders, run.senders());
        now.extend(renumbered(&before, &self.senders, &now));
        Ok(Changes {
            now,
            filter: run.log().clone(),
            later,
            forgotten,
        })
    }

    /// Sets what may have changed of the observer; returns how many agents no
    /// longer may be any. Only the first step can fail: what the other needs was
    /// checked with the flags.
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
        if now.is_empty() && later.is_empty() && *forgotten == 0 {
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

/// Lists of users and groups with the same names as before, which stand for other
/// numbers now.
fn renumbered(before: &Senders, after: &Senders, changed: &[Change]) -> Vec<Change> {
    let lists = [
        ("allow-uid", &before.uids, &after.uids),
        ("allow-gid", &before.gids, &after.gids),
    ];
    let is_changed = |flag: &str| changed.iter().any(|change| change.flag == flag);
    let words = |ids: &[u32]| ids.iter().map(ToString::to_string).collect();
    let lists = lists.into_iter();
    let lists = lists.filter(|(flag, before, after)| before != after && !is_changed(flag));
    let renumbered = lists.map(|(flag, before, after)| Change {
        name: flag.replace('-', "_"),
        flag: flag.to_owned(),
        before: words(before),
        after: words(after),
    });
    renumbered.collect()
}

fn describe(changes: &[Change]) -> String {
    let words = |words: &[String]| match words {
        [] => "unset".into(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_stand_for_other_numbers_are_a_change() {
        let list = |uids: &[u32], gids: &[u32]| Senders {
            uids: uids.to_vec(),
            gids: gids.to_vec(),
        };
        let (before, after) = (list(&[1, 2], &[3]), list(&[1, 4], &[5]));
        assert_eq!(renumbered(&before, &before, &[]), []);
        let changes = renumbered(&before, &after, &[]);
        assert_eq!(
            describe(&changes),
            "allow_uid from 1 2 to 1 4, allow_gid from 3 to 5"
        );
        // Where the words have changed, that is reported anyhow.
        let only_gids = renumbered(&before, &after, &changes[..1]);
        assert_eq!(only_gids, changes[1..]);
        let unset = renumbered(&list(&[1], &[]), &list(&[], &[]), &[]);
        assert_eq!(describe(&unset), "allow_uid from 1 to unset");
    }
}
