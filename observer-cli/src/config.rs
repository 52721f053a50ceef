//! The configuration file of `observer run`, and how it goes together with
//! the flags and the environment.
//!
//! There is one definition of all settings: the flags. What the environment and
//! the file say is put, as flags, in front of those that were given, unless it is
//! beaten by them; then the whole is parsed as any command line is. Each value
//! from the file is tried alone beforehand, so that what is wrong with it is
//! reported with its place.

mod duration;
mod effective;
#[cfg(test)]
#[cfg(feature = "top")]
mod example;
mod explain;
mod keys;
mod place;
#[cfg(test)]
mod tests;
mod trusted_file;
mod value;

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::str;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};
use observer_events::format::Plain;

pub(crate) use self::effective::{Change, Effective, SetBy, Value};
use self::explain::Explainer;
pub(crate) use self::keys::Key;
use self::place::{Mistake, Place};
use self::value::{Given, Setting, settings};
use crate::flags::Run;
use crate::{Cli, Command};

/// Environment variables that stand for flags. They beat the file.
const ENVIRONMENT: [(&str, &str); 1] = [("OBSERVER_LOG", "log")];

/// The command whose flags may stand in a file.
const RUN: &str = "run";

/// What a command line asks for, with what it names.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) command: Command,
    /// The settings of `run`. Other commands have none.
    pub(crate) effective: Effective,
}

/// Why it cannot be had.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// In the words of clap, usage and all; also the help, when that was asked
    /// for.
    Usage(Box<clap::Error>),
    /// Something is wrong that no flag names.
    Other(String),
}

/// What was put in front of the flags that were given.
struct Defaults {
    /// The flags that were given, as clap calls them.
    given: Vec<String>,
    file: Option<PathBuf>,
    /// From the file, those that are beaten too.
    settings: Vec<Setting>,
    /// What is not beaten.
    used: Vec<Used>,
}

/// A setting from the environment or the file.
struct Used {
    id: String,
    arguments: Vec<OsString>,
    set_by: SetBy,
}

/// Reads a command line, and with `run` the file that it names.
///
/// # Errors
/// What is wrong with any of it.
pub(crate) fn load(arguments: &[OsString]) -> Result<Loaded, Refusal> {
    let (command, effective) = if is_run(arguments) {
        load_run(arguments)?
    } else {
        let matches = Cli::command().try_get_matches_from(arguments)?;
        (command_of(&matches)?, Effective::default())
    };
    Ok(Loaded { command, effective })
}

/// Whether a command line is one of `observer run`.
pub(crate) fn is_run(arguments: &[OsString]) -> bool {
    arguments.get(1).is_some_and(|name| name == RUN)
}

fn load_run(arguments: &[OsString]) -> Result<(Command, Effective), Refusal> {
    // What is wrong with the flags alone is not the file's mistake. What is
    // missing may stand there.
    if let Err(error) = Cli::command().try_get_matches_from(arguments)
        && error.kind() != ErrorKind::MissingRequiredArgument
    {
        return Err(error.into());
    }
    let given = Cli::command()
        .ignore_errors(true)
        .try_get_matches_from(arguments)?;
    let empty = ArgMatches::default();
    let given = given.subcommand_matches(RUN).unwrap_or(&empty);
    let mut explainer = Explainer::new();
    let defaults = Defaults::of(given, &mut explainer)?;
    // Behind `run`: what was given may end in `--`.
    let (run, flags) = arguments.split_at(arguments.len().min(2));
    let arguments = defaults.used.iter().flat_map(|used| &used.arguments);
    let merged = run.iter().chain(arguments).chain(flags);
    let parsed = Cli::command().try_get_matches_from(merged);
    let parsed = parsed.map_err(|error| explainer.explain(error, &defaults))?;
    let command = command_of(&parsed)?;
    if let Command::Run(run) = &command {
        check(run, &mut explainer, &defaults)?;
    }
    let effective = match parsed.subcommand_matches(RUN) {
        Some(matches) => Effective::new(matches, &explainer.keys, defaults),
        None => Effective::default(),
    };
    Ok((command, effective))
}

/// Refuses what is wrong with the settings as a whole, whatever the host.
fn check(run: &Run, explainer: &mut Explainer, defaults: &Defaults) -> Result<(), Refusal> {
    if let Some(contradiction) = run.contradiction() {
        let error = run_command().error(ErrorKind::ArgumentConflict, contradiction);
        return Err(explainer.explain(error, defaults));
    }
    let checked = run.builder().check();
    checked.map_err(|error| explainer.explain_start(error, defaults))
}

fn command_of(matches: &ArgMatches) -> Result<Command, Refusal> {
    Ok(Cli::from_arg_matches(matches)?.command)
}

/// `observer run`, with what it needs to show its usage.
pub(crate) fn run_command() -> clap::Command {
    let mut observer = Cli::command();
    observer.build();
    let run = observer.find_subcommand(RUN).cloned();
    run.unwrap_or(observer)
}

impl Defaults {
    fn of(given: &ArgMatches, explainer: &mut Explainer) -> Result<Self, Refusal> {
        let file = given.try_get_one::<PathBuf>("config").ok().flatten();
        let settings = match file {
            Some(path) => read_settings(path, &explainer.keys)?,
            None => Vec::new(),
        };
        let mut flags: Vec<String> = given.ids().map(ToString::to_string).collect();
        flags.retain(|id| given.value_source(id) == Some(ValueSource::CommandLine));
        let mut beaten_by = flags.clone();
        let mut defaults = Self {
            given: flags,
            file: file.cloned(),
            settings,
            used: Vec::new(),
        };
        defaults.take_environment(&mut beaten_by, explainer)?;
        defaults.take_file(&beaten_by, explainer)?;
        Ok(defaults)
    }

    fn take_environment(
        &mut self,
        beaten_by: &mut Vec<String>,
        explainer: &mut Explainer,
    ) -> Result<(), Refusal> {
        for (variable, flag) in ENVIRONMENT {
            let value = env::var_os(variable).filter(|value| !value.is_empty());
            let key = explainer.keys.iter().find(|key| key.flag == flag).cloned();
            let (Some(value), Some(key)) = (value, key) else {
                continue;
            };
            let argument = argument(&key, &value);
            if let Some(reason) = explainer.refuses(&argument) {
                let value = Plain(value.display());
                return Err(Refusal::Other(format!("{variable}={value}: {reason}")));
            }
            if !explainer.is_beaten(&key, beaten_by) {
                beaten_by.push(key.id.clone());
                self.used.push(Used {
                    id: key.id,
                    arguments: vec![argument],
                    set_by: SetBy::Environment { variable },
                });
            }
        }
        Ok(())
    }

    /// What is wrong in the file is refused even if it is beaten.
    fn take_file(
        &mut self,
        beaten_by: &[String],
        explainer: &mut Explainer,
    ) -> Result<(), Refusal> {
        for Setting { key, place, values } in self.settings.clone() {
            let mut arguments = Vec::new();
            for given in values {
                // There is no flag for what is off.
                if key.is_switch() && given.word == "false" {
                    continue;
                }
                let argument = argument(&key, OsStr::new(&given.word));
                if let Some(reason) = explainer.refuses(&argument) {
                    let reason = format!("{}: {reason}", in_words_of_file(&key, &given));
                    let place = given.place;
                    return Err(self.refusal(Mistake { place, reason }));
                }
                arguments.push(argument);
            }
            if !explainer.is_beaten(&key, beaten_by) {
                self.used.push(Used {
                    id: key.id,
                    arguments,
                    set_by: SetBy::File(place),
                });
            }
        }
        Ok(())
    }

    /// The settings from the file that are not beaten.
    fn used_settings(&self) -> impl Iterator<Item = &Setting> {
        let settings = self.settings.iter();
        settings.filter(|setting| self.set_by(&setting.key.id) == Some(SetBy::File(setting.place)))
    }

    /// What has set a setting, if that is the environment or the file.
    fn set_by(&self, id: &str) -> Option<SetBy> {
        let used = self.used.iter().find(|used| used.id == id);
        used.map(|used| used.set_by)
    }

    /// Whether a flag was given.
    fn is_given(&self, id: &str) -> bool {
        self.given.iter().any(|given| given == id)
    }

    fn refusal(&self, mistake: Mistake) -> Refusal {
        refusal(self.file.as_deref().unwrap_or(Path::new("")), mistake)
    }
}

fn read_settings(path: &Path, keys: &[Key]) -> Result<Vec<Setting>, Refusal> {
    let content = trusted_file::read(path)
        .map_err(|error| Refusal::Other(format!("{}: {error:#}", path.display())))?;
    let text = str::from_utf8(&content).map_err(|error| {
        let valid = content.get(..error.valid_up_to()).unwrap_or_default();
        let valid = String::from_utf8_lossy(valid);
        let mistake = Mistake {
            place: Place::of(&valid, valid.len()),
            reason: "this is not UTF-8".into(),
        };
        refusal(path, mistake)
    })?;
    settings(text, keys).map_err(|mistake| refusal(path, mistake))
}

fn refusal(path: &Path, Mistake { place, reason }: Mistake) -> Refusal {
    Refusal::Other(format!("{}:{place}: {reason}", path.display()))
}

/// A value as the file has it, and what that stands for.
fn in_words_of_file(key: &Key, given: &Given) -> String {
    let word = place::quoted(&given.word);
    let plain = format!("{} = {word}", key.flag.replace('-', "_"));
    match &given.written {
        Some(written) => format!("{} = {} ({plain})", key.name, place::quoted(written)),
        None => plain,
    }
}

/// The flag that a key stands for.
fn argument(key: &Key, value: &OsStr) -> OsString {
    let mut argument = OsString::from(format!("--{}", key.flag));
    if !key.is_switch() {
        argument.push("=");
        argument.push(value);
    }
    argument
}

impl From<clap::Error> for Refusal {
    fn from(error: clap::Error) -> Self {
        Self::Usage(Box::new(error))
    }
}
