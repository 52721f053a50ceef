//! What clap refuses, in the words of the file.

use std::error::Error as _;
use std::ffi::{OsStr, OsString};

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use observer::StartError;
use observer_events::format::Plain;

use super::keys::{Key, keys};
use super::place::{Mistake, Place};
use super::value::Setting;
use super::{Defaults, Refusal, run_command};
use crate::failure;

/// Tries arguments one by one, to know which of them is refused.
pub(super) struct Explainer {
    pub(super) keys: Vec<Key>,
    run: Command,
}

impl Explainer {
    pub(super) fn new() -> Self {
        let run = run_command();
        Self {
            keys: keys(&run),
            run,
        }
    }

    /// Why the value of an argument is refused, whatever the others are.
    pub(super) fn refuses(&mut self, argument: &OsStr) -> Option<String> {
        let error = self.try_alone(argument)?;
        match error.kind() {
            ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict => None,
            _ => Some(reason(&error)),
        }
    }

    /// Whether one of these flags, which were given, takes the place of a key:
    /// the same, or one that does not go together with it.
    pub(super) fn is_beaten(&self, key: &Key, given: &[String]) -> bool {
        let conflicts = |one: &str, other: &str| {
            let arg = self.run.get_arguments().find(|arg| arg.get_id() == one);
            let conflicts = arg.map(|arg| self.run.get_arg_conflicts_with(arg));
            conflicts.is_some_and(|all| all.iter().any(|arg| arg.get_id() == other))
        };
        given
            .iter()
            .any(|id| *id == key.id || conflicts(id, &key.id) || conflicts(&key.id, id))
    }

    /// What clap says of the whole. If it is about something in the file, it is
    /// said of the file, with the place.
    pub(super) fn explain(&mut self, error: clap::Error, defaults: &Defaults) -> Refusal {
        let found = match error.kind() {
            ErrorKind::MissingRequiredArgument => self.requirement(&error, defaults),
            _ => self.mistake(&summary(&error), defaults),
        };
        match found {
            Some(mistake) => defaults.refusal(mistake),
            None => error.into(),
        }
    }

    /// What the library says of the whole, likewise.
    pub(super) fn explain_start(&self, error: StartError, defaults: &Defaults) -> Refusal {
        let flag = failure::flag_of(&error);
        let reason = failure::explain(&error.into());
        match flag.and_then(|flag| place_of(flag, defaults)) {
            Some(place) => defaults.refusal(Mistake {
                place,
                reason: self.renamed(&reason, defaults),
            }),
            None => Refusal::Other(reason),
        }
    }

    /// A message about flags as one about the file; `None` if it names no flag
    /// that a key there stands for.
    fn mistake(&self, message: &str, defaults: &Defaults) -> Option<Mistake> {
        let is_named =
            |flag: &str| words(message).any(|word| word.strip_prefix("--") == Some(flag));
        let mut settings = defaults.used_settings();
        let first = settings.find(|setting| is_named(&setting.key.flag))?;
        Some(Mistake {
            place: first.place,
            reason: self.renamed(message, defaults),
        })
    }

    /// A message with the names of keys for those of flags, save for flags that
    /// were given.
    fn renamed(&self, message: &str, defaults: &Defaults) -> String {
        let used = defaults.used_settings().map(|setting| &setting.key);
        let others = self.keys.iter();
        let others = others.filter(|key| !defaults.is_given(&key.id));
        used.chain(others).fold(message.to_owned(), |text, key| {
            replace(&text, &format!("--{}", key.flag), &key.name)
        })
    }

    /// The key in the file that requires another that is nowhere.
    fn requirement(&mut self, error: &clap::Error, defaults: &Defaults) -> Option<Mistake> {
        let always = self.try_alone(OsStr::new("")).map(|error| missing(&error));
        let always = always.unwrap_or_default();
        let missing_now = missing(error);
        for Setting { key, place, values } in defaults.used_settings() {
            let Some(value) = values.first() else {
                continue;
            };
            let argument = super::argument(key, OsStr::new(&value.word));
            let needed = self.try_alone(&argument).map(|error| missing(&error));
            let needed = needed.unwrap_or_default();
            let flag = needed
                .iter()
                .find(|flag| missing_now.contains(flag) && !always.contains(flag));
            if let Some(flag) = flag {
                let reason = format!("{} needs {}", key.name, self.names(flag));
                return Some(Mistake {
                    place: *place,
                    reason,
                });
            }
        }
        None
    }

    /// The names of flags as those of keys: `<--udp <A>|--trust-udp <A>>` is
    /// `udp or trust_udp`.
    fn names(&self, flags: &str) -> String {
        let is_named = |key: &&Key| words(flags).any(|word| word == format!("--{}", key.flag));
        let mut names: Vec<&str> = Vec::new();
        for key in self.keys.iter().filter(is_named) {
            names.push(&key.name);
        }
        names.join(" or ")
    }

    /// The error of an argument that stands alone.
    fn try_alone(&mut self, argument: &OsStr) -> Option<clap::Error> {
        let argument = Some(argument).filter(|argument| !argument.is_empty());
        let argument = argument.map(OsString::from);
        let arguments = [OsString::from("observer")].into_iter().chain(argument);
        self.run.try_get_matches_from_mut(arguments).err()
    }
}

/// The flags that an error names as missing.
fn missing(error: &clap::Error) -> Vec<String> {
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::Strings(flags)) => flags.clone(),
        Some(ContextValue::String(flag)) => vec![flag.clone()],
        _ => Vec::new(),
    }
}

/// Why a value is refused.
fn reason(error: &clap::Error) -> String {
    if let Some(source) = error.source() {
        return shorten(&source.to_string());
    }
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) if !values.is_empty() => {
            format!("not one of {}", values.join(", "))
        }
        _ if error.kind() == ErrorKind::InvalidValue => "a value is needed".into(),
        _ => shorten(&summary(error)),
    }
}

/// A reason may have the value in it, which may be long or have several lines.
fn shorten(reason: &str) -> String {
    const MOST: usize = 512;
    let reason: String = reason.chars().take(MOST).collect();
    Plain(reason).to_string()
}

/// What an error says, without what follows about usage.
fn summary(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.split("\n\n").next().unwrap_or_default();
    text.trim_start_matches("error: ").trim().to_owned()
}

/// Where the file sets what a flag stands for.
fn place_of(flag: &str, defaults: &Defaults) -> Option<Place> {
    let mut settings = defaults.used_settings();
    let setting = settings.find(|setting| setting.key.flag == flag);
    setting.map(|setting| setting.place)
}

/// The flags and other words in a message.
fn words(message: &str) -> impl Iterator<Item = &str> {
    message.split(|character: char| !is_part_of_flag(character))
}

fn is_part_of_flag(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '-'
}

/// Puts a name in the place of a flag, with what it takes (`<PATH>`), and not of
/// a longer one that begins alike.
fn replace(text: &str, flag: &str, name: &str) -> String {
    let mut replaced = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(flag) {
        let is_whole = !after.starts_with(is_part_of_flag);
        replaced.push_str(before);
        replaced.push_str(if is_whole { name } else { flag });
        let value = after.strip_prefix(" <").filter(|_| is_whole);
        let value = value.and_then(|value| value.split_once('>'));
        rest = value.map_or(after, |(_, after)| after);
    }
    replaced + rest
}
