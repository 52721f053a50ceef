//! `docs/flags.md`: each command and flag, with the help that the command line
//! shows.

use std::env;
use std::fmt::{self, Write as _};
use std::fs;

use clap::builder::PossibleValue;
use clap::{Arg, Command, CommandFactory as _};

use crate::Cli;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/flags.md");
const UPDATE: &str = "UPDATE=1 cargo test --package observer-cli flags";
/// Columns of a line at most.
const WIDTH: usize = 80;
/// Flags that clap adds, and that go without saying.
const GENERAL: [&str; 2] = ["help", "version"];

#[test]
fn the_document_has_the_flags_of_the_command_line() {
    let mut root = Cli::command();
    root.build();
    let document = document(&root).unwrap();
    if env::var_os("UPDATE").is_some() {
        fs::write(PATH, &document).unwrap();
    }
    let written = fs::read_to_string(PATH).unwrap_or_default();
    assert!(
        written == document,
        "docs/flags.md is not what the command line has; write it with\n    {UPDATE}"
    );
}

fn document(root: &Command) -> Result<String, fmt::Error> {
    let mut text = String::from("# Commands and flags\n\n");
    let preface = "What `observer COMMAND --help` shows, for all commands. This file is \
                   generated from it: change the help in `observer-cli/src`, and write this \
                   file with";
    wrap(&mut text, preface, "", "")?;
    writeln!(text, "\n    {UPDATE}\n")?;
    let more = "How flags work together, and what to set when, is in \
                [operations](operations.md) and [audit trail](audit.md).";
    wrap(&mut text, more, "", "")?;
    if let Some(notes) = root.get_after_help() {
        text.push('\n');
        wrap(&mut text, &notes.to_string(), "", "")?;
    }
    for command in root.get_subcommands() {
        section(&mut text, command, "observer")?;
    }
    Ok(text)
}

/// A command, or one after the other the commands below it.
fn section(text: &mut String, command: &Command, parent: &str) -> fmt::Result {
    let name = format!("{parent} {}", command.get_name());
    if command.get_name() == "help" {
        return Ok(());
    }
    if command.has_subcommands() {
        let mut commands = command.get_subcommands();
        return commands.try_for_each(|command| section(text, command, &name));
    }
    writeln!(text, "\n## `{name}`\n")?;
    if let Some(about) = command.get_about() {
        wrap(text, &format!("{about}."), "", "")?;
    }
    let usage = command.clone().render_usage().to_string();
    writeln!(text, "\n    {}", usage.trim_start_matches("Usage: "))?;
    if let Some(notes) = command.get_after_help() {
        text.push('\n');
        wrap(text, &notes.to_string(), "", "")?;
    }
    let mut heading = None;
    for arg in arguments(command) {
        if arg.get_help_heading() != heading {
            heading = arg.get_help_heading();
            writeln!(text, "\n### {}", heading.unwrap_or("Other flags"))?;
        }
        argument(text, arg)?;
    }
    Ok(())
}

fn arguments(command: &Command) -> impl Iterator<Item = &Arg> {
    let arguments = command.get_arguments();
    arguments.filter(|arg| !GENERAL.contains(&arg.get_id().as_str()))
}

fn argument(text: &mut String, arg: &Arg) -> fmt::Result {
    let names = arg.get_value_names().unwrap_or_default();
    let takes_value = arg.get_action().takes_values();
    let names = names.iter().filter(|_| takes_value);
    let names = names.map(|name| format!("<{name}>"));
    let flag = arg.get_long().map(|long| format!("--{long}"));
    let flag: Vec<String> = flag.into_iter().chain(names).collect();
    let required = if arg.is_required_set() {
        " (required)"
    } else {
        ""
    };
    let help = arg.get_long_help().or(arg.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let defaults = arg.get_default_values().iter().filter(|_| takes_value);
    let defaults = defaults.map(|value| format!(" [default: {}]", value.display()));
    let defaults: String = defaults.collect();
    text.push('\n');
    wrap(
        text,
        &format!("`{}`{required}: {help}{defaults}", flag.join(" ")),
        "- ",
        "  ",
    )?;
    let values = arg.get_possible_values();
    let mut values = values.iter().filter(|_| takes_value);
    values.try_for_each(|value| possible_value(text, value))
}

fn possible_value(text: &mut String, value: &PossibleValue) -> fmt::Result {
    let help = value.get_help().map(ToString::to_string);
    let help = help.unwrap_or_default();
    wrap(
        text,
        &format!("`{}`: {help}", value.get_name()),
        "  - ",
        "    ",
    )
}

/// Writes words in lines, the first one after `first` and the others after
/// `others`. What is in backticks stays on one line.
pub(crate) fn wrap(text: &mut String, words: &str, first: &str, others: &str) -> fmt::Result {
    let mut line = first.to_owned();
    let mut is_empty = true;
    for word in unbroken(words) {
        if !is_empty && line.len().saturating_add(word.len()) >= WIDTH {
            writeln!(text, "{line}")?;
            others.clone_into(&mut line);
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(&word);
        is_empty = false;
    }
    writeln!(text, "{line}")
}

/// The words; those between backticks as one.
fn unbroken(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match words.last_mut() {
            Some(open) if open.matches('`').count() % 2 == 1 => open.extend([" ", word]),
            _ => words.push(word.to_owned()),
        }
    }
    words
}
