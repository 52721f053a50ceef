//! `observer check-config`: says what `observer run` would run with, and where
//! each setting comes from.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::config::{Effective, Loaded, Origin, Refusal, Value, load};
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

/// As a file that could be read again.
fn write_lines(out: &mut impl Write, effective: &Effective) -> io::Result<()> {
    let mut lines = Vec::new();
    for value in &effective.values {
        lines.push((
            format!("{} = {}", value.key.name, json(value)),
            value.origin,
        ));
    }
    let width = lines.iter().map(|(line, _)| line.len()).max();
    let width = width.unwrap_or_default().min(48);
    for (line, origin) in lines {
        let origin = match (origin, &effective.file) {
            (Origin::Flag, _) => "flag".into(),
            (Origin::Environment { variable }, _) => format!("environment, {variable}"),
            (Origin::File(place), Some(file)) => format!("{}:{place}", file.display()),
            (Origin::File(place), None) => place.to_string(),
            (Origin::Default, _) => "default".into(),
        };
        writeln!(out, "{line:<width$}  # {origin}")?;
    }
    Ok(())
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
    origin: Origin,
}

fn write_json(out: &mut impl Write, effective: &Effective) -> io::Result<()> {
    let mut settings = Map::new();
    for value in &effective.values {
        let setting = Setting {
            value: json(value),
            origin: value.origin,
        };
        settings.insert(value.key.name.clone(), serde_json::to_value(setting)?);
    }
    let file = effective.file.as_ref();
    let config = file.map(|file| file.display().to_string());
    write_document(out, &Document { config, settings })
}

/// A value as the file would have it; JSON and TOML write it alike.
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
