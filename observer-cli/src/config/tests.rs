//! Files of all sorts: what they mean, and that none of them is the end.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use super::{Change, Effective, Loaded, Place, Refusal, SetBy, load};
use crate::Command;
use crate::flags::{CHANGE_WHILE_RUNNING, Run};

/// A file, and flags to go with it.
struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("observer.toml")
    }

    fn load(&self, content: impl AsRef<[u8]>, flags: &[&str]) -> Result<Loaded, String> {
        fs::write(self.file(), content).unwrap();
        let mut config = OsString::from("--config=");
        config.push(self.file());
        let mut arguments: Vec<OsString> = vec!["observer".into(), "run".into(), config];
        arguments.extend(flags.iter().map(OsString::from));
        load(&arguments).map_err(|refusal| match refusal {
            Refusal::Usage(error) => error.to_string(),
            Refusal::Other(reason) => reason,
        })
    }

    fn run(&self, content: &str, flags: &[&str]) -> (Box<Run>, Effective) {
        let loaded = self.load(content, flags);
        let Loaded { command, effective } = loaded.unwrap_or_else(|error| panic!("{error}"));
        match command {
            Command::Run(run) => (run, effective),
            other => panic!("{other:?}"),
        }
    }

    /// What is wrong with it, behind the name of the file.
    fn refused(&self, content: impl AsRef<[u8]>, flags: &[&str]) -> String {
        let reason = self.load(content, flags).unwrap_err();
        let name = format!("{}:", self.file().display());
        reason
            .strip_prefix(&name)
            .unwrap_or_else(|| panic!("{reason}"))
            .trim_start()
            .to_owned()
    }
}

const REQUIRED: &str = "socket = \"/run/s\"\nthreshold = \"5s\"\n";
const REQUIRED_FLAGS: [&str; 4] = ["--socket", "/run/s", "--threshold-ms", "9"];

#[test]
fn the_example_of_the_issue_works_as_written() {
    let scene = Scene::new();
    let (run, effective) = scene.run(
        "socket = \"/run/observer/observer.sock\"\nthreshold = \"5s\"\n",
        &[],
    );
    assert_eq!(run.socket(), "/run/observer/observer.sock");
    assert_eq!(run.threshold_ms(), 5000);
    assert_eq!(effective.file, Some(scene.file()));
}

#[test]
fn a_flag_beats_the_file() {
    let scene = Scene::new();
    let (run, effective) = scene.run(REQUIRED, &["--threshold-ms=9"]);
    assert_eq!(
        (run.threshold_ms(), run.socket().to_str()),
        (9, Some("/run/s"))
    );
    let set_by = |flag: &str| {
        let mut values = effective.values.iter();
        values.find(|value| value.key.flag == flag).unwrap().set_by
    };
    assert_eq!(set_by("threshold-ms"), SetBy::Flag);
    assert_eq!(set_by("socket"), SetBy::File(Place { line: 1, column: 1 }));
    assert_eq!(set_by("events"), SetBy::Default);
    // Lists are replaced, not put together.
    let (run, _) = scene.run(
        "allow_uid = [1, 2]",
        &[&REQUIRED_FLAGS[..], &["--allow-uid=3"]].concat(),
    );
    assert_eq!(run.senders().uids, [3]);
    // What does not go together with a flag is beaten by it.
    let flags = [&REQUIRED_FLAGS[..], &["--json"]].concat();
    scene.run("output = \"human\"", &flags);
    let flags = [&REQUIRED_FLAGS[..], &["--output=human"]].concat();
    scene.run("json = true", &flags);
    // The place of what is given does not matter.
    let flags = [&REQUIRED_FLAGS[..], &["--"]].concat();
    scene.run("json = true", &flags);
}

#[test]
fn values_of_each_kind() {
    let scene = Scene::new();
    let (run, _) = scene.run(
        "allow_uid = \"root\"\nallow_gid = [0, \"0\", 0x10]\nsocket_mode = 0o660\n\
         metrics = [9477, \"unix:/run/m\"]\nover_lsm = true\nudp_tokens = false\n\
         look = \"250us\"\naudit = \"/a\"\naudit_key = \"/k\"\naudit_sync = \"1s\"\n\
         log = \"debug\"\nmax_agents = 1_000",
        &REQUIRED_FLAGS,
    );
    assert_eq!(
        (run.senders().uids, run.senders().gids),
        (vec![0], vec![0, 0, 16])
    );
    assert_eq!(run.socket_mode(), 0o660);
    let sync = run.audit_options().unwrap().sync_after;
    assert_eq!(sync.unwrap().as_millis(), 1000);
    for word in ["\"seal\"", "100", "\"100ms\""] {
        let audit = format!("audit = \"/a\"\naudit_key = \"/k\"\naudit_sync = {word}");
        scene.run(&audit, &REQUIRED_FLAGS);
    }
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let scene = Scene::new();
    for (content, reason) in [
        (
            "treshold = 1",
            "1:1: unknown key `treshold`; the nearest is `threshold`",
        ),
        (
            "\n  threshold-ms = 1",
            "2:3: unknown key `threshold-ms`; the nearest is `threshold_ms`",
        ),
        ("config = \"/x\"", "1:1: unknown key `config`"),
        ("[agent]\nname = 1", "1:2: unknown key `agent`"),
        ("[[agent]]\nname = 1", "1:3: unknown key `agent`"),
        ("socket = 1", "1:10: socket needs a string, not a number"),
        ("socket.x = 1", "1:1: socket needs a string, not a table"),
        (
            "socket = [\"a\"]",
            "1:10: socket needs a string, not an array",
        ),
        ("json = 1", "1:8: json needs true or false, not a number"),
        (
            "max_agents = 1.5",
            "1:14: max_agents needs a number, not a number with a fraction",
        ),
        (
            "max_agents = \"1\"",
            "1:14: max_agents needs a number, not a string",
        ),
        (
            "max_agents = 0",
            "1:14: max_agents = `0`: 0 is not in 1..=1048576",
        ),
        ("max_agents = -1", "1:14: max_agents = `-1`: "),
        (
            "max_agents = 99999999999999999999",
            "1:14: max_agents: the number is too large",
        ),
        (
            "threshold = 5",
            "1:13: threshold needs a string with a unit",
        ),
        (
            "threshold = \"5\"",
            "1:13: threshold: not a duration with a unit",
        ),
        (
            "threshold = \"1us\"",
            "1:13: threshold: not a whole number of milliseconds",
        ),
        (
            "threshold = \"9999d\"",
            "1:13: threshold = `9999d` (threshold_ms = `863913600000`): ",
        ),
        (
            "threshold_ms = \"5s\"",
            "1:16: threshold_ms needs a number, not a string",
        ),
        (
            "threshold = \"5s\"\nthreshold_ms = 5",
            "2:1: threshold_ms and threshold are one",
        ),
        (
            "socket_mode = 660",
            "1:15: socket_mode: not an octal number",
        ),
        (
            "socket_mode = 0o1777",
            "1:15: socket_mode = `1777`: permissions are at most 0777",
        ),
        (
            "attest = \"on\"",
            "1:10: attest = `on`: not one of require, prefer, off",
        ),
        (
            "allow_uid = [0,\n \"no such user\"]",
            "2:2: allow_uid = `no such user`: no such user",
        ),
        (
            "udp = [[\"127.0.0.1:1\"]]",
            "1:8: udp needs a string, or an array of these, not an",
        ),
        ("log = \"bogus\"", "1:7: log = `bogus`: bogus is no level"),
        ("socket = \"\"", "1:10: socket = ``: a value is needed"),
        ("json = true\njson = true", "2:1: duplicate key"),
        ("socket = ", "1:10: "),
        ("a = \"\n", "1:"),
    ] {
        let found = scene.refused(content, &[]);
        assert!(found.starts_with(reason), "{content:?}: {found}");
        // It is refused where flags beat it, too.
        assert_eq!(scene.refused(content, &["--threshold-ms=1"]), found);
    }
    assert_eq!(
        scene.refused(b"json = true # \xc3\xa4\xff", &[]),
        "1:16: this is not UTF-8"
    );
}

/// What stands in the file is quoted, on one line.
#[test]
fn what_is_wrong_is_named_as_the_file_has_it() {
    let scene = Scene::new();
    for (content, reason) in [
        (
            "agent = 1",
            "1:1: unknown key `agent`; the keys are the flags of `observer run`",
        ),
        (
            "max_agents = -99999999999999999999",
            "1:14: max_agents: the number is too small",
        ),
        (
            "threshold = \"0s\"",
            "1:13: threshold = `0s` (threshold_ms = `0`): 0 is not in 1..=",
        ),
        (
            "log = \"a\\nb\"",
            "1:7: log = `a\\nb`: a\\nb is no level; give",
        ),
        ("socket = \"a\\u0000b\"", "1:10: socket: it has a NUL"),
        (
            "allow_uid = []",
            "1:13: allow_uid has no values: give one, or leave it out",
        ),
        ("allow_gid = [\n]", "1:13: allow_gid has no values"),
        ("udp = [ ]", "1:7: udp has no values"),
    ] {
        let found = scene.refused(content, &[]);
        assert!(found.starts_with(reason), "{content:?}: {found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
}

/// What clap says of several flags, it says of the keys that stand for them.
#[test]
fn what_does_not_go_together_is_named_with_its_place() {
    let scene = Scene::new();
    for (content, reason) in [
        ("audit = \"/a\"", "1:1: audit needs audit_key"),
        (
            "json = false\naudit_keep = 3",
            "2:1: audit_keep needs audit",
        ),
        (
            "attest_device = \"lo\"",
            "1:1: attest_device needs udp or trust_udp",
        ),
        (
            "json = true\noutput = \"human\"",
            "1:1: the argument 'json' cannot be used with 'output'",
        ),
        (
            "json_u64 = \"string\"",
            "1:1: json_u64 string is for json or output json",
        ),
        (
            "tier = \"scm\"\nattest = \"require\"",
            "1:1: tier scm attests nothing: it needs attest prefer or attest off",
        ),
        (
            "metrics = \"0.0.0.0:1\"",
            "1:1: metrics at an address that other hosts can reach needs metrics_token",
        ),
        (
            "control = \"/run/s\"",
            "1:1: --socket and control both name /run/s",
        ),
    ] {
        let found = scene.refused(content, &REQUIRED_FLAGS);
        assert!(found.starts_with(reason), "{content:?}: {found}");
    }
    // A flag that was given keeps its name.
    let flags = [&REQUIRED_FLAGS[..], &["--attest=require"]].concat();
    let found = scene.refused("tier = \"scm\"", &flags);
    let reason = "1:1: tier scm attests nothing: it needs --attest prefer";
    assert!(found.starts_with(reason), "{found}");
    // What no key stands for is said of the flags.
    let usage = scene.load("", &["--socket=/run/s"]).unwrap_err();
    assert!(
        usage.contains("--threshold-ms") && usage.contains("Usage"),
        "{usage}"
    );
    let usage = scene.load(REQUIRED, &["--jsn"]).unwrap_err();
    assert!(
        usage.contains("--jsn") && usage.contains("Usage"),
        "{usage}"
    );
}

/// Whatever the file says.
#[test]
fn what_is_wrong_with_the_flags_is_not_the_files_mistake() {
    let scene = Scene::new();
    for (flags, reason) in [
        (
            &["--threshold-ms=5", "--threshold-ms=6"][..],
            "'--threshold-ms <MS>' cannot be used multiple times",
        ),
        (
            &["--socket"][..],
            "a value is required for '--socket <PATH>'",
        ),
        (
            &["--json", "--output=json"][..],
            "'--json' cannot be used with '--output <FORMAT>'",
        ),
    ] {
        for content in [REQUIRED, "json = true", ""] {
            let found = scene.load(content, flags).unwrap_err();
            assert!(found.starts_with("error: "), "{found}");
            assert!(found.contains(reason), "{found}");
        }
    }
    // What is missing may be there.
    scene.run(
        "udp = \"127.0.0.1:1\"",
        &[&REQUIRED_FLAGS[..], &["--udp-tokens"]].concat(),
    );
}

/// What the library would refuse before it looks at the host.
#[test]
fn what_no_host_would_run_is_named_with_its_place() {
    let scene = Scene::new();
    let nine = format!("json = true\nudp = [{}]", "\"127.0.0.1:0\", ".repeat(9));
    for (content, reason) in [
        (
            "udp = \"0.0.0.0:99\"",
            "1:1: udp 0.0.0.0:99 can be reached from other hosts",
        ),
        (&nine, "2:1: there can be at most 8 UDP listeners, not 9"),
        (
            "attest = \"off\"\nmin_tier = \"btf\"",
            "2:1: tier scm is weaker than tier btf",
        ),
    ] {
        let found = scene.refused(content, &REQUIRED_FLAGS);
        assert!(found.starts_with(reason), "{content:?}: {found}");
    }
    let advice = scene.refused("udp = \"0.0.0.0:99\"", &REQUIRED_FLAGS);
    assert!(advice.ends_with("with trust_udp"), "{advice}");
    let found = scene.refused("socket = \"/run/\"\nthreshold = \"5s\"", &[]);
    assert!(
        found.starts_with("1:1: \"/run/\" is no path for a socket"),
        "{found}"
    );
    // Of flags no place is known.
    let flags = [&REQUIRED_FLAGS[..], &["--udp=0.0.0.0:99"]].concat();
    let found = scene.load("json = true", &flags).unwrap_err();
    assert!(
        found.starts_with("udp 0.0.0.0:99 can be reached"),
        "{found}"
    );
    scene.run(
        "udp = \"0.0.0.0:99\"\naccept_network_beats = true",
        &REQUIRED_FLAGS,
    );
}

/// Nothing of a file is the end of the observer, nor takes long.
#[test]
fn no_file_is_the_end() {
    let scene = Scene::new();
    let tables: String = (0..10_000).fold(String::new(), |mut text, number| {
        writeln!(text, "[t{number}]\nsocket = 1").unwrap();
        text
    });
    let same = "[[agent]]\nname = \"x\"\n".repeat(10_000);
    let deep = format!("socket = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    let inline = "socket = ".to_owned() + &"{a = ".repeat(100_000);
    let dotted = "a.".repeat(100_000) + "a = 1";
    let many = format!("allow_uid = [{}]", "\"root\", ".repeat(400_000));
    let long = format!("\"{}\" = 1", "x".repeat(4_000_000));
    let level = format!("log = \"{}\"", "x".repeat(4_000_000));
    // Each has a place, far behind the begin of its line.
    let far = format!(
        "udp = [{}{}\"bad\"]",
        " ".repeat(4_000_000),
        "\"127.0.0.1:1\", ".repeat(1000)
    );
    let value = format!("socket_mode = \"{}\"", "7".repeat(4_000_000));
    let keys = (0..200_000).fold(String::new(), |mut text, number| {
        writeln!(text, "k{number} = 1").unwrap();
        text
    });
    for text in [
        tables, same, deep, inline, dotted, many, long, level, far, value, keys,
    ] {
        let reason = scene.refused(&text, &REQUIRED_FLAGS);
        assert!(reason.len() < 1000, "{}", reason.len());
    }
}

/// Any bytes, and a good file with any of its bytes changed.
#[test]
fn any_bytes_are_a_file_or_an_error() {
    let scene = Scene::new();
    let good = format!("{REQUIRED}allow_uid = [\"root\", 0]\njson = true\n# \u{e4}\n").into_bytes();
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33).to_le_bytes()[0]
    };
    for _ in 0..300 {
        let bytes: Vec<u8> = (0..next()).map(|_| next()).collect();
        drop(scene.load(&bytes, &[]));
        let mut changed = good.clone();
        let at = usize::from(next()) % changed.len();
        changed[at] = next();
        drop(scene.load(&changed, &[]));
    }
}

#[test]
fn changes_are_those_of_the_values() {
    let scene = Scene::new();
    let (_, mut before) = scene.run(REQUIRED, &["--json"]);
    let after = "threshold_ms = 5000\nsocket = \"/run/t\"\nallow_uid = [1, 2]\n";
    let (_, after) = scene.run(after, &["--json"]);
    let change = |flag: &str, before: &[&str], after: &[&str]| {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        Change {
            name: flag.replace('-', "_"),
            flag: flag.to_owned(),
            before: words(before),
            after: words(after),
        }
    };
    let socket = change("socket", &["/run/s"], &["/run/t"]);
    let allow_uid = change("allow-uid", &[], &["1", "2"]);
    let mut changes = before.changes(&after);
    changes.sort_by(|one, other| other.flag.cmp(&one.flag));
    assert_eq!(changes, [socket.clone(), allow_uid]);
    before.take("allow-uid", &after);
    assert_eq!(before.changes(&after), [socket]);
}

#[test]
fn what_changes_while_running_are_flags() {
    let run = super::run_command();
    for flag in CHANGE_WHILE_RUNNING {
        let mut flags = run.get_arguments().filter_map(clap::Arg::get_long);
        assert!(flags.any(|long| long == flag), "{flag}");
    }
}
