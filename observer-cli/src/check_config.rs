//! `observer check-config`: says what `observer run` would run with, and what
//! has set each setting.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use observer_events::format::Plain;
use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::config::{Effective, Loaded, Refusal, SetBy, Value, load};
use crate::failure::Usage;
use crate::plain::{PlainText, ignore_broken_pipe, write_document};

pub(crate) const NOTES: &str = "Reads the file as `observer run --config` does, with the \
    environment and the flags behind `--`, and exits with 2 if that would refuse it. To be run by \
    the observer's user: whose the file may be depends on it.";

/// `observer check-config`
#[derive(Debug, Args)]
pub(crate) struct CheckConfig {
    /// The configuration file
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// Write one JSON object
    #[arg(long)]
    json: bool,

    /// Flags of `observer run` to go with it
    #[arg(value_name = "FLAGS", last = true)]
    flags: Vec<OsString>,
}

/// Writes the settings to stdout.
///
/// # Errors
/// What `observer run` would refuse; or if stdout cannot be written.
pub(crate) fn execute(args: &CheckConfig) -> anyhow::Result<()> {
    let mut arguments: Vec<OsString> = vec!["observer".into(), "run".into()];
    if let Some(file) = &args.file {
        let mut config = OsString::from("--config=");
        config.push(file);
        arguments.push(config);
    }
    arguments.extend(args.flags.iter().cloned());
    let Loaded { effective, .. } = match load(&arguments) {
        Ok(loaded) => loaded,
        Err(Refusal::Usage(error)) => error.exit(),
        Err(Refusal::Other(reason)) => return Err(Usage(reason).into()),
    };
    let mut out = PlainText(io::stdout().lock());
    let written = if args.json {
        write_json(&mut out, &effective)
    } else {
        write_lines(&mut out, &effective)
    };
    ignore_broken_pipe(written).context("cannot write the settings to stdout")
}

/// As a file that could be read again, and would mean the same.
fn write_lines(out: &mut impl Write, effective: &Effective) -> io::Result<()> {
    let mut lines = Vec::new();
    for value in &effective.values {
        let set_by = value.set_by;
        let off = if set_by == SetBy::Default { "#" } else { "" };
        let line = format!("{off}{} = {}", value.key.name, toml(&json(value)));
        lines.push((line, set_by));
    }
    let width = lines.iter().map(|(line, _)| line.len()).max();
    let width = width.unwrap_or_default().min(48);
    for (line, set_by) in lines {
        let set_by = match (set_by, &effective.file) {
            (SetBy::Flag, _) => "flag".into(),
            (SetBy::Environment { variable }, _) => format!("environment, {variable}"),
            (SetBy::File(place), Some(file)) => format!("{}:{place}", file.display()),
            (SetBy::File(place), None) => place.to_string(),
            (SetBy::Default, _) => "default".into(),
        };
        writeln!(out, "{line:<width$}  # {set_by}")?;
    }
    Ok(())
}

/// A value in TOML. Text has everything escaped that does not print.
fn toml(value: &Json) -> String {
    match value {
        Json::String(text) => format!("\"{}\"", text.chars().map(escaped).collect::<String>()),
        Json::Array(values) => {
            let values: Vec<String> = values.iter().map(toml).collect();
            format!("[{}]", values.join(", "))
        }
        other => other.to_string(),
    }
}

fn escaped(character: char) -> String {
    let shown = Plain(character).to_string();
    let code = u32::from(character);
    match character {
        '"' | '\\' => format!("\\{character}"),
        _ if shown.chars().eq([character]) => shown,
        '\0'..='\u{ffff}' => format!("\\u{code:04x}"),
        _ => format!("\\U{code:08x}"),
    }
}

#[derive(Serialize)]
struct Document {
    /// The file that was read.
    config: Option<String>,
    settings: Map<String, Json>,
}

#[derive(Serialize)]
struct Setting {
    value: Json,
    #[serde(flatten)]
    set_by: SetBy,
}

fn write_json(out: &mut impl Write, effective: &Effective) -> io::Result<()> {
    let mut settings = Map::new();
    for value in &effective.values {
        let setting = Setting {
            value: json(value),
            set_by: value.set_by,
        };
        settings.insert(value.key.name.clone(), serde_json::to_value(setting)?);
    }
    let file = effective.file.as_ref();
    let config = file.map(|file| file.display().to_string());
    write_document(out, &Document { config, settings })
}

/// A value as the file would have it.
fn json(Value { key, words, .. }: &Value) -> Json {
    let word = |word: &String| match word.parse::<u64>() {
        Ok(number) if key.is_number() => Json::from(number),
        _ if key.is_switch() => Json::Bool(word == "true"),
        _ => Json::from(word.as_str()),
    };
    match words.as_slice() {
        [one] if !key.is_list => word(one),
        several => several.iter().map(word).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(arguments: &[&str]) -> Effective {
        let arguments = [&["observer", "run"][..], arguments].concat();
        let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
        load(&arguments).unwrap().effective
    }

    #[test]
    fn what_is_shown_is_a_file_that_says_the_same() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("observer.toml");
        let config = format!("--config={}", file.display());
        for flags in [
            &["--json", "--allow-uid=0", "--allow-uid=7"][..],
            &["--socket-mode=0660", "--output=human", "--metrics=9477"],
            &["--audit=/a", "--audit-key=/k", "--audit-sync=100"],
        ] {
            let socket = "/run/\"\\\t\u{7f}\u{202e}\u{e0001}\u{e4}\n";
            let required = ["--socket", socket, "--threshold-ms=5"];
            let given = read(&[&required[..], flags].concat());
            let mut lines = Vec::new();
            write_lines(&mut PlainText(&mut lines), &given).unwrap();
            fs::write(&file, &lines).unwrap();
            let again = read(&[&config]);
            assert_eq!(again.changes(&given), []);
            let set = |of: &Effective| {
                let set = of.values.iter();
                set.filter(|value| value.set_by != SetBy::Default).count()
            };
            assert_eq!(set(&again), set(&given));
        }
    }
}
