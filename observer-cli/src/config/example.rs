//! `docs/observer.toml`: a configuration file with each key, which has the help
//! that the command line shows.

use std::env;
use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::fs;
use std::iter;
use std::path::Path;

use clap::Arg;
use clap::builder::PossibleValue;

use super::keys::{Key, Kind, keys};
use super::place::Mistake;
use super::value::settings;
use super::{Refusal, load, run_command};
use crate::Command;
use crate::flags::CHANGE_WHILE_RUNNING;
use crate::flags_document::wrap;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/observer.toml");
const UPDATE: &str = "UPDATE=1 cargo test --package observer-cli flags";

/// Values of keys that have no default, or one that shows little. They go
/// together.
const VALUES: [(&str, &str); 22] = [
    ("socket", "\"/run/observer/observer.sock\""),
    ("threshold", "\"5s\""),
    ("socket_mode", "\"0660\""),
    ("socket_group", "\"root\""),
    ("allow_uid", "[\"root\", 1000]"),
    ("allow_gid", "[\"root\"]"),
    ("tier", "\"btf\""),
    ("min_tier", "\"btf\""),
    ("btf", "\"/sys/kernel/btf/vmlinux\""),
    ("ring_bytes", "1048576"),
    ("max_group_rate", "10000"),
    ("look", "\"1ms\""),
    ("udp", "[\"127.0.0.1:7878\", \"[::1]:7878\"]"),
    ("trust_udp", "[\"192.0.2.1:7878\"]"),
    ("attest_device", "[\"docker0\"]"),
    ("cgroup", "\"/sys/fs/cgroup\""),
    ("metrics", "[9477, \"unix:/run/observer/metrics.sock\"]"),
    ("metrics_token", "\"/etc/observer/token\""),
    ("control", "\"/run/observer/control.sock\""),
    ("audit", "\"/var/lib/observer/audit.jsonl\""),
    ("audit_key", "\"/var/lib/observer/audit.key\""),
    ("audit_sync", "\"100ms\""),
];

#[test]
fn the_example_has_the_keys_of_the_flags() {
    let example = example().unwrap();
    if env::var_os("UPDATE").is_some() {
        fs::write(PATH, &example).unwrap();
    }
    let written = fs::read_to_string(PATH).unwrap_or_default();
    assert!(
        written == example,
        "docs/observer.toml is not what the command line has; write it with\n    {UPDATE}"
    );
}

/// Each key, and then all of them, with the `#` before them taken away.
#[test]
fn the_example_works() {
    let text = example().unwrap();
    let is_key = |line: &&str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
    let lines: Vec<&str> = text.lines().filter(is_key).map(|line| &line[1..]).collect();
    let keys = keys(&run_command());
    for (name, _) in VALUES {
        assert!(keys.iter().any(|key| key.name == name), "{name}");
    }
    let plain = keys.iter().filter(|key| !is_second(key, &keys)).count();
    assert_eq!(lines.len(), plain, "{lines:#?}");
    for line in &lines {
        settings(line, &keys).unwrap_or_else(|Mistake { reason, .. }| panic!("{line}: {reason}"));
    }
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("observer.toml");
    // As it is: the two keys that are required.
    let run = load_example(&file, &text);
    assert_eq!(run.unwrap(), (5000, true));
    fs::write(&file, lines.join("\n")).unwrap();
    assert_eq!(load_file(&file).unwrap(), (5000, false));
}

/// The first two lines of settings stand in it as they would in a file of one's
/// own.
fn load_example(file: &Path, text: &str) -> Result<(u64, bool), String> {
    let used = ["#socket = ", "#threshold = "];
    let lines = text.lines().map(|line| {
        let is_used = used.iter().any(|begin| line.starts_with(begin));
        if is_used { &line[1..] } else { line }
    });
    fs::write(file, lines.collect::<Vec<_>>().join("\n")).unwrap();
    load_file(file)
}

/// The threshold, and whether everyone may be an agent.
fn load_file(file: &Path) -> Result<(u64, bool), String> {
    let mut config = OsString::from("--config=");
    config.push(file);
    match load(&["observer".into(), "run".into(), config]) {
        Ok(loaded) => match loaded.command {
            Command::Run(run) => Ok((run.threshold_ms(), run.senders().is_everyone())),
            other => Err(format!("{other:?}")),
        },
        Err(Refusal::Usage(error)) => Err(error.to_string()),
        Err(Refusal::Other(reason)) => Err(reason),
    }
}

fn example() -> Result<String, fmt::Error> {
    let run = run_command();
    let keys = keys(&run);
    let mut text = String::new();
    let preface = "Settings of `observer run --config FILE`: its flags, with `_` for `-`. Here is \
                   each, with its default or an example. Flags that are given beat the \
                   environment, and that beats the file. Durations have a unit: \"250ms\", \
                   \"5s\", \"25h\", \"1d\". What is marked \"(SIGHUP)\" changes while the \
                   observer runs; the rest needs a restart.";
    wrap(&mut text, preface, "# ", "# ")?;
    writeln!(text, "#")?;
    let origin = "This file is generated: change the help in `observer-cli/src`, and write it with";
    wrap(&mut text, origin, "# ", "# ")?;
    writeln!(text, "#\n#     {UPDATE}")?;
    let mut heading = None;
    for arg in run.get_arguments() {
        let of_arg = keys.iter().filter(|key| key.id == arg.get_id().as_str());
        let of_arg: Vec<&Key> = of_arg.collect();
        let Some(key) = of_arg.first() else {
            continue;
        };
        if arg.get_help_heading() != heading {
            heading = arg.get_help_heading();
            let heading = heading.unwrap_or("Other settings");
            let rule: String = iter::repeat_n('-', heading.len()).collect();
            writeln!(text, "\n# {heading}\n# {rule}")?;
        }
        describe(&mut text, key, of_arg.get(1).copied(), arg)?;
    }
    Ok(text)
}

fn describe(text: &mut String, key: &Key, second: Option<&Key>, arg: &Arg) -> fmt::Result {
    let help = arg.get_long_help().or(arg.get_help());
    let mut help = help.map(ToString::to_string).unwrap_or_default();
    let values = arg.get_possible_values();
    if !key.is_switch() && !values.is_empty() {
        let names: Vec<&str> = values.iter().map(PossibleValue::get_name).collect();
        write!(help, ". One of {}", names.join(", "))?;
    }
    if let Some(second) = second {
        write!(help, ". Or the number alone, as `{}`", second.name)?;
    }
    if CHANGE_WHILE_RUNNING.contains(&&*key.flag) {
        help.push_str(" (SIGHUP)");
    }
    writeln!(text, "#")?;
    wrap(text, &help, "# ", "# ")?;
    writeln!(text, "#{} = {}", key.name, value(key, arg))
}

fn value(key: &Key, arg: &Arg) -> String {
    if let Some((_, value)) = VALUES.iter().find(|(name, _)| *name == key.name) {
        return (*value).to_owned();
    }
    let default = arg.get_default_values().first();
    let default = default.map(|value| value.to_str().expect("ours is text"));
    match (key.kind, default) {
        (Kind::Switch, _) => "false".into(),
        (Kind::Number, Some(number)) => number.into(),
        (Kind::Duration(unit), Some(number)) => format!("\"{number}{}\"", unit.suffix()),
        (_, Some(word)) => format!("\"{word}\""),
        (_, None) => panic!("{} has no default: give an example of its value", key.name),
    }
}

/// The key without a unit, of a flag that has one with it.
fn is_second(key: &Key, keys: &[Key]) -> bool {
    let first = keys.iter().find(|other| other.id == key.id);
    first.is_some_and(|first| first.name != key.name)
}
