//! What clap refuses, in the words of the file.

use std::error::Error as _;
use std::ffi::{OsStr, OsString};

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::keys::{Key, keys};
use super::place::Mistake;
use super::value::Setting;
use super::{Defaults, Refusal, run_command};

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
            _ => in_words_of_file(&summary(&error), defaults),
        };
        match found {
            Some(mistake) => defaults.refusal(mistake),
            None => error.into(),
        }
    }

    /// The key in the file that requires another that is nowhere.
    fn requirement(&mut self, error: &clap::Error, defaults: &Defaults) -> Option<Mistake> {
        let always = self.try_alone(OsStr::new("")).map(|error| missing(&error));
        let always = always.unwrap_or_default();
        let missing_now = missing(error);
        for Setting { key, place, values } in defaults.used_settings() {
            let Some((value, _)) = values.first() else {
                continue;
            };
            let argument = super::argument(key, OsStr::new(value));
            let needed = self.try_alone(&argument).map(|error| missing(&error));
            let needed = needed.unwrap_or_default();
            let flag = needed
                .iter()
                .find(|flag| missing_now.contains(flag) && !always.contains(flag));
            if let Some(flag) = flag {
                let reason = format!("{} needs {}", key.name, self.in_words_of_file(flag));
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
    fn in_words_of_file(&self, flags: &str) -> String {
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
        return source.to_string();
    }
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) if !values.is_empty() => {
            format!("not one of {}", values.join(", "))
        }
        _ if error.kind() == ErrorKind::InvalidValue => "a value is needed".into(),
        _ => summary(error),
    }
}

/// What an error says, without what follows about usage.
fn summary(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.split("\n\n").next().unwrap_or_default();
    text.trim_start_matches("error: ").trim().to_owned()
}

/// A message about flags as one about the keys in the file that stand for them;
/// `None` if it names none of these.
fn in_words_of_file(message: &str, defaults: &Defaults) -> Option<Mistake> {
    let mut place = None;
    let mut text = message.to_owned();
    for setting in defaults.used_settings() {
        let flag = format!("--{}", setting.key.flag);
        if !words(message).any(|word| word == flag) {
            continue;
        }
        place.get_or_insert(setting.place);
        text = replace(&text, &flag, &setting.key.name);
    }
    Some(Mistake {
        place: place?,
        reason: text,
    })
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
