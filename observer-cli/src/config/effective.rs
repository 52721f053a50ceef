//! The settings as they are in the end, each with what has set it.

use std::path::PathBuf;

use clap::ArgMatches;
use clap::parser::ValueSource;
use serde::Serialize;

use super::keys::{Key, Kind};
use super::{Defaults, Place};

/// Of `observer run`: the file that was read, and all settings that have a value.
#[derive(Debug, Default)]
pub(crate) struct Effective {
    pub(crate) file: Option<PathBuf>,
    pub(crate) values: Vec<Value>,
}

/// A setting that has a value.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub(crate) key: Key,
    /// In the words of the command line.
    pub(crate) words: Vec<String>,
    pub(crate) set_by: SetBy,
}

/// What has set a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "set_by", rename_all = "snake_case")]
pub(crate) enum SetBy {
    Flag,
    Environment { variable: &'static str },
    File(Place),
    Default,
}

/// A setting that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) name: String,
    pub(crate) flag: String,
    /// In the words of the command line; empty: there is none.
    pub(crate) before: Vec<String>,
    pub(crate) after: Vec<String>,
}

impl Effective {
    pub(super) fn new(matches: &ArgMatches, keys: &[Key], defaults: Defaults) -> Self {
        // Of the two keys of a flag with a unit the number.
        let plain = keys
            .iter()
            .filter(|key| !matches!(key.kind, Kind::Duration(_)));
        let values = plain.filter_map(|key| {
            let words = matches.get_raw(&key.id)?;
            Some(Value {
                key: key.clone(),
                words: words
                    .map(|word| word.to_string_lossy().into_owned())
                    .collect(),
                set_by: set_by(matches, key, &defaults),
            })
        });
        Self {
            values: values.collect(),
            file: defaults.file,
        }
    }

    /// What is not as it is here.
    pub(crate) fn changes(&self, new: &Self) -> Vec<Change> {
        let flags = self.values.iter().chain(&new.values);
        let mut changes: Vec<Change> = Vec::new();
        for Value { key, .. } in flags {
            let [before, after] = [self, new].map(|one| one.words(&key.flag).to_vec());
            let is_known = changes.iter().any(|change| change.flag == key.flag);
            if before != after && !is_known {
                changes.push(Change {
                    name: key.name.clone(),
                    flag: key.flag.clone(),
                    before,
                    after,
                });
            }
        }
        changes
    }

    /// Takes a value from others: it is in force now.
    pub(crate) fn take(&mut self, flag: &str, from: &Self) {
        self.values.retain(|value| value.key.flag != flag);
        let value = from.values.iter().find(|value| value.key.flag == flag);
        self.values.extend(value.cloned());
    }

    fn words(&self, flag: &str) -> &[String] {
        let value = self.values.iter().find(|value| value.key.flag == flag);
        value.map_or(&[], |value| &value.words)
    }
}

fn set_by(matches: &ArgMatches, key: &Key, defaults: &Defaults) -> SetBy {
    defaults
        .set_by(&key.id)
        .unwrap_or_else(|| match matches.value_source(&key.id) {
            Some(ValueSource::CommandLine) => SetBy::Flag,
            _ => SetBy::Default,
        })
}
