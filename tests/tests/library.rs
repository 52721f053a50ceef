//! `observer` as a library: the examples as programs of a crate outside this
//! repository, which gets the eBPF object by depending on `observer`.

use std::env;
use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use observer_tests::agent::Agent;
use observer_tests::{must, need_kernel, workspace};
use tempfile::TempDir;

const EXAMPLES: [&str; 3] = ["agent", "stream", "watch"];

const MANIFEST: &str = r#"
[package]
name = "outside"
edition = "2024"

[features]
no-object = ["observer/no-object"]

[profile.dev]
debug = false

[dependencies]
futures-util = { version = "0.3", default-features = false }
tokio = { version = "1", default-features = false, features = ["macros", "rt", "signal"] }
"#;

/// Where the library is a folder of a checkout.
const BY_PATH: &str = r#"
observer = { path = "FOLDER/observer" }
observer-common = { path = "FOLDER/observer-common", features = ["user"] }
"#;

/// Where it is packages, unpacked.
const BY_PACKAGE: &str = r#"
observer = "0.1.0"
observer-common = { version = "0.1.0", features = ["user"] }

[patch.crates-io]
observer = { path = "FOLDER/observer-0.1.0" }
observer-common = { path = "FOLDER/observer-common-0.1.0" }
observer-ebpf-build = { path = "FOLDER/observer-ebpf-build-0.1.0" }
observer-events = { path = "FOLDER/observer-events-0.1.0" }
"#;

/// The crate, in a folder of its own. What it is built into stays, for the next
/// time.
struct Outside {
    folder: TempDir,
    target: PathBuf,
}

impl Outside {
    /// `library`: what of the manifest says where it is.
    fn new(library: &str, place: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a scratch directory");
        let target = workspace().join("target/outside");
        let outside = Self { folder, target };
        for new in [&outside.path("src/bin"), &outside.target] {
            fs::create_dir_all(new).expect("there is room");
        }
        let library = library.replace("FOLDER", &place.display().to_string());
        let manifest = [MANIFEST, library.trim_start()].concat();
        fs::write(outside.path("Cargo.toml"), manifest).expect("there is room");
        // The versions that have been fetched.
        let lock = workspace().join("Cargo.lock");
        fs::copy(lock, outside.path("Cargo.lock")).expect("there is room");
        for example in EXAMPLES {
            let file = format!("{example}.rs");
            let source = workspace().join("observer/examples").join(&file);
            let copy = outside.path("src/bin").join(file);
            fs::copy(source, copy).expect("there is room");
        }
        for given in ["", "Cargo.lock"] {
            give_to_builder(&outside.path(given));
        }
        give_to_builder(&outside.target);
        outside
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `cargo build`, as somebody who has not heard of this workspace's
    /// settings.
    fn build(&self, arguments: &[&str], variables: &[(&str, &Path)]) -> Command {
        let mut command = builder();
        for (name, value) in variables {
            command.arg(format!("{name}={}", value.display()));
        }
        command
            .arg(format!("CARGO_TARGET_DIR={}", self.target.display()))
            .args([env!("CARGO"), "build", "--offline"])
            .args(arguments)
            .current_dir(self.folder.path());
        command
    }

    fn program(&self, name: &str) -> Command {
        Command::new(self.target.join("debug").join(name))
    }

    /// Starts a program that observes, and one that beats, until the first has
    /// printed what it is to say of the second.
    fn watch_an_agent(&self, name: &str, expected: impl Fn(u32) -> String) {
        let socket = self.path(name);
        let start = |name: &str| {
            let mut command = self.program(name);
            command.arg(&socket);
            Agent::spawn(command)
        };
        let mut observer = start(name);
        let agent = start("agent");
        let expected = expected(agent.pid());
        let line = observer.line();
        assert!(line.starts_with(&expected), "{expected}: {line}");
    }

    fn attests(&self) {
        self.watch_an_agent("watch", |pid| {
            format!("{pid} of user Some(0) is alive: beat ")
        });
        self.watch_an_agent("stream", |pid| format!("beat Some({pid})"));
    }
}

/// Where sudo runs the tests, whoever called it builds: root may have no
/// toolchain.
fn give_to_builder(path: &Path) {
    let id = |name| env::var(name).ok()?.parse().ok();
    if let (Some(uid), Some(gid)) = (id("SUDO_UID"), id("SUDO_GID")) {
        chown(path, Some(uid), Some(gid)).expect("root may");
    }
}

/// `env`, to be followed by assignments and a command.
fn builder() -> Command {
    let Ok(user) = env::var("SUDO_USER") else {
        let mut command = Command::new("env");
        command.arg("--unset=OBSERVER_EBPF_OBJECT");
        return command;
    };
    let mut sudo = Command::new("sudo");
    sudo.args(["--user", &user, "--set-home", "--", "env"]);
    for name in ["PATH", "CARGO_HOME", "RUSTUP_HOME"] {
        if let Ok(value) = env::var(name) {
            sudo.arg(format!("{name}={value}"));
        }
    }
    sudo
}

/// A host with a Rust compiler and a C linker, and with nothing that can build
/// for BPF.
struct Bare {
    folder: TempDir,
    rustc: PathBuf,
}

impl Bare {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a scratch directory");
        let path = env::var_os("PATH").expect("there is a PATH");
        for name in ["as", "cc", "ld"] {
            let mut programs = env::split_paths(&path).map(|folder| folder.join(name));
            if let Some(program) = programs.find(|program| program.is_file()) {
                symlink(program, folder.path().join(name)).expect("there is room");
            }
        }
        give_to_builder(folder.path());
        let rustc = Path::new(env!("CARGO")).with_file_name("rustc");
        Self { folder, rustc }
    }

    fn variables(&self) -> [(&str, &Path); 4] {
        let folder = self.folder.path();
        [
            ("PATH", folder),
            ("RUSTUP_HOME", folder),
            ("RUSTC", &self.rustc),
            // As if it were unset; a build script that ran before runs again.
            ("OBSERVER_EBPF_OBJECT", Path::new("")),
        ]
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_crate_outside_attests() {
    need_kernel!();
    let outside = Outside::new(BY_PATH, &workspace());
    must(&mut outside.build(&[], &[]));
    outside.attests();
}

#[test]
fn packages_attest_where_no_toolchain_is() {
    need_kernel!();
    let packaged = builder()
        .args([env!("CARGO"), "xtask", "package", "--"])
        .args(["--offline", "--allow-dirty", "--no-verify"])
        .current_dir(workspace())
        .output()
        .expect("env starts");
    assert!(packaged.status.success(), "{}", stderr(&packaged));
    let unpacked = tempfile::tempdir().expect("a scratch directory");
    give_to_builder(unpacked.path());
    for package in ["", "-common", "-ebpf-build", "-events"] {
        let file = format!("target/package/observer{package}-0.1.0.crate");
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--gzip", "--no-same-owner", "--directory"])
            .arg(unpacked.path())
            .arg("--file")
            .arg(workspace().join(file));
        must(&mut tar);
    }
    let outside = Outside::new(BY_PACKAGE, unpacked.path());
    must(&mut outside.build(&[], &Bare::new().variables()));
    outside.attests();
}

#[test]
fn an_observer_without_an_object_says_so_when_it_starts() {
    need_kernel!();
    let outside = Outside::new(BY_PATH, &workspace());
    let arguments = ["--bin", "watch", "--features", "no-object"];
    must(&mut outside.build(&arguments, &Bare::new().variables()));
    let started = outside
        .program("watch")
        .arg(outside.path("s"))
        .output()
        .expect("it was built");
    assert!(!started.status.success());
    assert!(stderr(&started).contains("NoObject"), "{started:?}");
}

#[test]
fn without_a_toolchain_the_build_says_what_to_install() {
    need_kernel!();
    let outside = Outside::new(BY_PATH, &workspace());
    let built = outside
        .build(&[], &Bare::new().variables())
        .output()
        .expect("env starts");
    assert!(!built.status.success(), "{built:?}");
    let said = stderr(&built);
    for line in [
        "no rustc with the sources of core was found",
        "rustup toolchain install nightly --component rust-src",
        "apt-get install --no-install-recommends rustc-web rust-web-src",
        "cargo install bpf-linker",
        "`cargo xtask setup`",
        "OBSERVER_EBPF_OBJECT",
        "feature `no-object`",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
}
