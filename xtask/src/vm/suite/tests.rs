use std::fs;

use super::super::host::SURVEY;
use super::super::mode::{Lockdown, Mode, Preempt};
use super::*;

/// The files of end-to-end tests, by name, with their texts; `layout` is
/// made of unit tests.
fn files() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tests");
    let paths = fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = paths
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension() == Some(OsStr::new("rs")))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    files.push(("layout".to_owned(), String::new()));
    files
}

fn steps() -> Vec<Step> {
    let names = files().into_iter().map(|(name, _)| name);
    names
        .filter(|name| LEFT_OUT_FILES.iter().all(|(file, _)| file != name))
        .map(|name| Step {
            name,
            program: PathBuf::new(),
            observer: PathBuf::new(),
            filter: None,
        })
        .collect()
}

/// A file or a test that got another name would otherwise be run, or left
/// out, unnoticed.
#[test]
fn every_name_on_a_list_is_that_of_a_file_or_a_test() {
    let files = files();
    let lists = LEFT_OUT_FILES
        .iter()
        .chain(&INTEGRITY)
        .map(|(name, _)| *name)
        .chain(PREEMPTION)
        .chain(PREEMPTION_ONLY);
    for name in lists {
        assert!(files.iter().any(|(file, _)| file == name), "{name}");
    }
    for (test, _) in LEFT_OUT_TESTS {
        let head = format!("fn {test}()");
        let is_there = files.iter().any(|(_, text)| text.contains(&head));
        assert!(is_there, "{test}");
    }
}

/// A filter that fits no test would pass.
#[test]
fn the_tests_of_the_layout_are_there() {
    let file = format!(
        "../observer/src/{}/tests.rs",
        LAYOUT_TESTS.replace("::", "/")
    );
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(file).is_file());
}

/// What the tables of `docs/kernels.md` are made of is found out in each
/// state of lockdown.
#[test]
fn every_state_of_lockdown_fills_the_tables() {
    for suite in [Suite::All, Suite::Integrity] {
        for file in SURVEY {
            assert!(suite.has_file(file), "{suite:?}: {file}");
        }
    }
    let recording = files()
        .into_iter()
        .filter(|(_, text)| text.contains("fact::"));
    for (name, _) in recording {
        assert!(SURVEY.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn each_mode_has_its_suite() {
    for (mode, suite) in [
        (Mode::Locked(Lockdown::None), Suite::All),
        (Mode::Locked(Lockdown::Integrity), Suite::Integrity),
        (Mode::Locked(Lockdown::Confidentiality), Suite::All),
        (Mode::Preempting(Preempt::Voluntary), Suite::Preemption),
        (Mode::Preempting(Preempt::Full), Suite::Preemption),
    ] {
        assert_eq!(mode.suite(), suite, "{mode:?}");
    }
}

#[test]
fn integrity_takes_nothing_from_the_other_states() {
    for step in steps() {
        let is_preemption = PREEMPTION_ONLY.contains(&step.name.as_str());
        assert_eq!(Suite::All.has(&step), !is_preemption, "{}", step.name);
        assert!(!is_preemption || Suite::Preemption.has(&step));
        assert!(!Suite::Integrity.has(&step) || Suite::All.has(&step));
    }
}

#[test]
fn what_integrity_leaves_out_is_named() {
    let steps = steps();
    let left_out = left_out(&steps);
    let (names, why) = left_out.last().unwrap();
    assert_eq!(*why, NOT_BY_INTEGRITY);
    let names = names.strip_prefix("under lockdown=integrity ").unwrap();
    let names: Vec<&str> = names.split(", ").collect();
    let all = steps.iter().filter(|step| Suite::All.has(step));
    let rest = all.filter(|step| !names.contains(&step.name.as_str()));
    assert!(rest.clone().all(|step| Suite::Integrity.has(step)));
    assert_eq!(rest.count(), INTEGRITY.len());
    assert!(names.contains(&"flood") && !names.contains(&"tiers"));
}
