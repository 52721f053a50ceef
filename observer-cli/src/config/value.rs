//! What the file says, as arguments of the command line.

use std::collections::HashMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeInteger, DeString, DeTable, DeValue};

use super::keys::{Key, Kind, nearest};
use super::place::{Mistake, Place, Places, quoted};

/// Each is looked at one by one.
const MAX_VALUES: usize = 1024;

/// A key that the file has.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) key: Key,
    pub(super) place: Place,
    pub(super) values: Vec<Given>,
}

/// A value that the file has.
#[derive(Clone, Debug)]
pub(super) struct Given {
    /// What it stands for on the command line.
    pub(super) word: String,
    /// What is written in the file, if that is something else.
    pub(super) written: Option<String>,
    pub(super) place: Place,
}

/// What is wrong, and with which bytes of the text.
type Wrong = (Range<usize>, String);

/// Reads the settings in a text, in its order.
///
/// # Errors
/// What is wrong with the first that is.
pub(super) fn settings(text: &str, keys: &[Key]) -> Result<Vec<Setting>, Mistake> {
    read(text, keys).map_err(|(span, reason)| Mistake {
        place: Place::of(text, span.start),
        reason,
    })
}

fn read(text: &str, keys: &[Key]) -> Result<Vec<Setting>, Wrong> {
    let table = DeTable::parse(text).map_err(|error| {
        let end = text.len()..text.len();
        (error.span().unwrap_or(end), error.message().to_owned())
    })?;
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    let mut places = Places::new(text);
    let mut seen: HashMap<&str, &str> = HashMap::new();
    let mut settings = Vec::new();
    for (name, value) in entries {
        let key = find(keys, name)?;
        if let Some(other) = seen.insert(&key.flag, &key.name) {
            let reason = format!("{} and {other} are one setting: give one of them", key.name);
            return Err((name.span(), reason));
        }
        let place = places.of(name.span().start);
        let values = values(key, value)?.into_iter().map(|value| Given {
            word: value.word,
            written: value.written,
            place: places.of(value.span.start),
        });
        settings.push(Setting {
            values: values.collect(),
            key: key.clone(),
            place,
        });
    }
    Ok(settings)
}

fn find<'a>(keys: &'a [Key], name: &Spanned<DeString<'_>>) -> Result<&'a Key, Wrong> {
    let word = name.get_ref();
    let key = keys.iter().find(|key| key.name == **word);
    key.ok_or_else(|| {
        let hint = match nearest(keys, word) {
            Some(nearest) => format!("the nearest is `{nearest}`"),
            None => "the keys are the flags of `observer run`, with `_` for `-`".into(),
        };
        let reason = format!("unknown key {}; {hint}", quoted(word));
        (name.span(), reason)
    })
}

/// A value, and where it is in the text.
struct Found {
    word: String,
    written: Option<String>,
    span: Range<usize>,
}

/// The values of a key.
fn values(key: &Key, value: &Spanned<DeValue<'_>>) -> Result<Vec<Found>, Wrong> {
    let DeValue::Array(array) = value.get_ref() else {
        return Ok(vec![found(key, value)?]);
    };
    if !key.is_list {
        return Err((value.span(), wrong_type(key, value.get_ref())));
    }
    if array.is_empty() {
        // There is no flag for it, and without any `allow_uid` is everyone.
        let reason = format!("{} has no values: give one, or leave it out", key.name);
        return Err((value.span(), reason));
    }
    if array.len() > MAX_VALUES {
        let reason = format!("{} has more than {MAX_VALUES} values", key.name);
        return Err((value.span(), reason));
    }
    array.iter().map(|value| found(key, value)).collect()
}

fn found(key: &Key, value: &Spanned<DeValue<'_>>) -> Result<Found, Wrong> {
    let word = word(key, value)?;
    let written = match value.get_ref() {
        DeValue::String(text) if **text != *word => Some(text.clone().into_owned()),
        _ => None,
    };
    Ok(Found {
        word,
        written,
        span: value.span(),
    })
}

/// A value in the words of the command line.
fn word(key: &Key, value: &Spanned<DeValue<'_>>) -> Result<String, Wrong> {
    let wrong = |reason| (value.span(), reason);
    let about = |reason: String| wrong(format!("{}: {reason}", key.name));
    match (key.kind, value.get_ref()) {
        // Nor can it be in a flag.
        (_, DeValue::String(text)) if text.contains('\0') => Err(about("it has a NUL".into())),
        (Kind::Switch, DeValue::Boolean(is_on)) => Ok(is_on.to_string()),
        (Kind::Text | Kind::TextOrNumber | Kind::Octal, DeValue::String(text)) => {
            Ok(text.clone().into_owned())
        }
        (Kind::Duration(unit), DeValue::String(text)) => {
            let count = unit.count(text).map_err(about)?;
            Ok(count.to_string())
        }
        // A word is for the flag to know.
        (Kind::TextOrDuration(unit), DeValue::String(text)) => Ok(unit
            .count(text)
            .map_or_else(|_| text.clone().into_owned(), |count| count.to_string())),
        (Kind::Octal, DeValue::Integer(number)) => octal(number).map_err(about),
        (Kind::Number | Kind::TextOrNumber | Kind::TextOrDuration(_), DeValue::Integer(number)) => {
            decimal(number).map_err(about)
        }
        (_, other) => Err(wrong(wrong_type(key, other))),
    }
}

/// TOML has numbers in four bases, and flags take decimal ones.
fn decimal(number: &DeInteger<'_>) -> Result<String, String> {
    let value = i64::from_str_radix(number.as_str(), number.radix());
    let extreme = if number.as_str().starts_with('-') {
        "small"
    } else {
        "large"
    };
    value
        .map(|value| value.to_string())
        .map_err(|_| format!("the number is too {extreme}"))
}

/// A decimal number that is meant as an octal one would be another.
fn octal(number: &DeInteger<'_>) -> Result<String, String> {
    if number.radix() == 8 {
        return Ok(number.as_str().to_owned());
    }
    Err("not an octal number; write it as 0o660 or \"0660\"".into())
}

fn wrong_type(key: &Key, value: &DeValue<'_>) -> String {
    let needed = match key.kind {
        Kind::Switch => "true or false",
        Kind::Number => "a number",
        Kind::Octal => "an octal number, such as 0o660",
        Kind::Duration(_) => "a string with a unit, such as \"5s\"",
        Kind::Text => "a string",
        Kind::TextOrNumber => "a string or a number",
        Kind::TextOrDuration(_) => "a string, such as \"5s\", or a number",
    };
    let found = match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    };
    let of_these = if key.is_list {
        ", or an array of these"
    } else {
        ""
    };
    let name = &key.name;
    format!("{name} needs {needed}{of_these}, not {found}")
}
