//! The keys that a configuration file may have. They are the flags of `observer
//! run`: whoever adds a flag there has added its key.

use clap::{Arg, ArgAction, Command};

use super::duration::Unit;

/// Arguments that are no settings.
const NO_KEYS: [&str; 3] = ["config", "help", "version"];

/// A key of the file, and the flag that it stands for.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// As the file has it.
    pub(crate) name: String,
    /// The flag, without its dashes.
    pub(crate) flag: String,
    /// The argument, as clap calls it.
    pub(super) id: String,
    pub(super) kind: Kind,
    /// Whether it takes several values.
    pub(crate) is_list: bool,
}

impl Key {
    pub(crate) fn is_switch(&self) -> bool {
        self.kind == Kind::Switch
    }

    /// Whether its value may be a number.
    pub(crate) fn is_number(&self) -> bool {
        matches!(
            self.kind,
            Kind::Number | Kind::TextOrNumber | Kind::TextOrDuration(_)
        )
    }
}

/// What the value of a key may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `true` or `false`.
    Switch,
    /// A number.
    Number,
    /// Permissions: a number in octal, as `0o660`, or the same as text.
    Octal,
    /// Text with a unit, as `5s`, for a flag that counts in this one.
    Duration(Unit),
    /// Text.
    Text,
    /// Text, or a number.
    TextOrNumber,
    /// A word, or text with a unit.
    TextOrDuration(Unit),
}

/// The keys for the flags of a command, in the order of the flags. A flag that
/// counts in a unit, such as `--threshold-ms`, has two: `threshold_ms` is a
/// number, and `threshold` has its unit.
pub(crate) fn keys(command: &Command) -> Vec<Key> {
    command.get_arguments().flat_map(keys_of).collect()
}

fn keys_of(arg: &Arg) -> Vec<Key> {
    let flag = arg.get_long().unwrap_or_default();
    let id = arg.get_id().as_str();
    if flag.is_empty() || NO_KEYS.contains(&id) {
        return Vec::new();
    }
    let key = |name: &str, kind| Key {
        name: name.replace('-', "_"),
        flag: flag.to_owned(),
        id: id.to_owned(),
        kind,
        is_list: matches!(arg.get_action(), ArgAction::Append),
    };
    let with_unit = Unit::ALL.into_iter().find_map(|unit| {
        let name = flag.strip_suffix(unit.suffix())?.strip_suffix('-')?;
        Some(key(name, Kind::Duration(unit)))
    });
    let plain = key(flag, kind_of(arg));
    with_unit.into_iter().chain([plain]).collect()
}

/// By what its help calls the value, as `<MS>` or `<NAME|UID>`.
fn kind_of(arg: &Arg) -> Kind {
    if !arg.get_action().takes_values() {
        return Kind::Switch;
    }
    let names = arg.get_value_names().unwrap_or_default();
    let forms: Vec<&str> = names.iter().flat_map(|name| name.split('|')).collect();
    let numbers = forms.iter().filter(|form| is_number(form)).count();
    let unit = forms.iter().find_map(|form| {
        let mut units = Unit::ALL.into_iter();
        units.find(|unit| form.eq_ignore_ascii_case(unit.suffix()))
    });
    match (numbers, unit) {
        _ if forms == ["OCTAL"] => Kind::Octal,
        (0, _) => Kind::Text,
        (numbers, _) if numbers == forms.len() => Kind::Number,
        (_, Some(unit)) => Kind::TextOrDuration(unit),
        (_, None) => Kind::TextOrNumber,
    }
}

fn is_number(form: &str) -> bool {
    matches!(
        form,
        "N" | "S" | "MS" | "US" | "BYTES" | "UID" | "GID" | "PORT" | "[ADDR:]PORT"
    )
}

/// The key whose name is the nearest to a word, if half of it is right.
pub(super) fn nearest<'a>(keys: &'a [Key], word: &str) -> Option<&'a str> {
    /// Beyond that nothing is near.
    const MOST: usize = 64;
    let word: String = word.chars().take(MOST).collect();
    let word = word.to_lowercase().replace('-', "_");
    let names = keys.iter().map(|key| key.name.as_str());
    let near = names.filter_map(|name| {
        let distance = strsim::damerau_levenshtein(name, &word);
        let length = name.len().min(word.chars().count());
        (distance.saturating_mul(2) <= length).then_some((distance, name))
    });
    let nearest = near.min_by_key(|(distance, _)| *distance);
    nearest.map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use std::any::TypeId;
    use std::collections::HashSet;

    use super::super::run_command;
    use super::*;

    #[test]
    fn each_flag_has_a_key_and_no_two_the_same() {
        let run = run_command();
        let keys = keys(&run);
        let names: HashSet<&str> = keys.iter().map(|key| &*key.name).collect();
        assert_eq!(names.len(), keys.len(), "{keys:?}");
        for arg in run.get_arguments() {
            let flag = arg.get_long().expect("each is a flag");
            let is_key = keys.iter().any(|key| key.flag == flag);
            assert_eq!(is_key, !NO_KEYS.contains(&flag), "{flag}");
        }
    }

    #[test]
    fn kinds_are_those_of_the_flags() {
        let run = run_command();
        let keys = keys(&run);
        let kind = |name: &str| {
            let key = keys.iter().find(|key| key.name == name);
            key.map(|key| (key.kind, key.is_list)).expect(name)
        };
        assert_eq!(kind("threshold_ms"), (Kind::Number, false));
        assert_eq!(
            kind("threshold"),
            (Kind::Duration(Unit::Milliseconds), false)
        );
        assert_eq!(kind("look"), (Kind::Duration(Unit::Microseconds), false));
        assert_eq!(
            kind("audit_sync"),
            (Kind::TextOrDuration(Unit::Milliseconds), false)
        );
        assert_eq!(kind("socket_mode"), (Kind::Octal, false));
        assert_eq!(kind("socket"), (Kind::Text, false));
        assert_eq!(kind("over_lsm"), (Kind::Switch, false));
        assert_eq!(kind("allow_uid"), (Kind::TextOrNumber, true));
        assert_eq!(kind("metrics"), (Kind::TextOrNumber, true));
    }

    /// What the flag takes has to fit what its help calls it.
    #[test]
    fn numbers_are_numbers() {
        let run = run_command();
        for key in keys(&run) {
            let arg = run.get_arguments().find(|arg| arg.get_id() == &*key.id);
            let parsed = arg.expect("it is one").get_value_parser().type_id();
            let is_number = [
                TypeId::of::<u16>(),
                TypeId::of::<u32>(),
                TypeId::of::<u64>(),
                TypeId::of::<usize>(),
            ]
            .iter()
            .any(|number| parsed == *number);
            let is_only_number = matches!(key.kind, Kind::Number | Kind::Octal | Kind::Duration(_));
            if is_only_number || key.kind == Kind::Text {
                assert_eq!(is_number, is_only_number, "{}", key.name);
            }
        }
    }

    #[test]
    fn the_nearest_key() {
        let keys = keys(&run_command());
        for (word, key) in [
            ("treshold", "threshold"),
            ("threshold-ms", "threshold_ms"),
            ("Socket", "socket"),
            ("allow_user", "allow_uid"),
        ] {
            assert_eq!(nearest(&keys, word), Some(key), "{word}");
        }
        for far in ["", "x", "agent", "tcp", "database", &"x".repeat(4 << 20)] {
            assert_eq!(nearest(&keys, far), None, "{far}");
        }
    }
}
