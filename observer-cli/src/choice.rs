//! Flags that take one of a few values of the library.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

/// The values of a flag: what to write, what it stands for, and its help.
pub(crate) type Choices<T> = &'static [(&'static str, T, &'static str)];

/// A parser for the flag.
pub(crate) fn choice<T>(choices: Choices<T>) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    let values = choices
        .iter()
        .map(|&(name, _, help)| PossibleValue::new(name).help(help));
    PossibleValuesParser::new(values).try_map(move |text| {
        let mut choices = choices.iter();
        let chosen = choices.find(|(name, ..)| *name == text);
        chosen
            .map(|&(_, value, _)| value)
            .ok_or("not one of the possible values")
    })
}
