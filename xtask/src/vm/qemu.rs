//! A virtual machine, from its start to its verdict.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::mode::Mode;
use super::report::Report;
use crate::apt;
use crate::process::find_on_path;
use crate::workspace::Workspace;

const PROGRAM: &str = "qemu-system-x86_64";

/// The package that has it.
const PACKAGE: &str = "qemu-system-x86";

/// The emulator: this system's, or one of its own under `target/tools`.
pub(super) struct Emulator {
    program: PathBuf,
    /// Where its libraries are, if not where this system has its own.
    libraries: Option<OsString>,
}

impl Emulator {
    /// Finds it or brings it. It is unpacked and not installed: another
    /// version of its tools may be here, which apt would take away for it.
    ///
    /// # Errors
    /// If it cannot be had.
    pub(super) fn ensure(workspace: &Workspace) -> Result<Self> {
        if let Some(program) = find_on_path(PROGRAM) {
            return Ok(Self {
                program,
                libraries: None,
            });
        }
        let folder = workspace.target().join("tools").join("qemu");
        if !folder.exists() {
            apt::unpack_with_needs(PACKAGE, &folder)
                .with_context(|| format!("virtual machines need {PROGRAM}"))?;
        }
        let host = format!("{}-linux-gnu", std::env::consts::ARCH);
        let libraries = ["usr/lib", "lib"].map(|place| folder.join(place).join(&host));
        Ok(Self {
            program: folder.join("usr/bin").join(PROGRAM),
            libraries: Some(std::env::join_paths(libraries)?),
        })
    }

    /// It finds firmware and modules beside itself.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }
}

/// Memory of a guest, which holds its disk as well.
const MEMORY: &str = "2G";

/// How often it is looked at.
const PAUSE: Duration = Duration::from_millis(200);

/// A guest to be.
pub(super) struct Machine<'a> {
    pub(super) emulator: &'a Emulator,
    pub(super) kernel: &'a Path,
    pub(super) initramfs: &'a Path,
    pub(super) mode: Mode,
    /// Folder for its console and its report.
    pub(super) folder: &'a Path,
    pub(super) time_limit: Duration,
}

/// A running machine; stopped when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended and was waited for.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Machine<'_> {
    /// Boots it and waits for its end.
    ///
    /// # Errors
    /// If it cannot be started, reports nothing, or takes too long.
    pub(super) fn run(&self) -> Result<Report> {
        fs::create_dir_all(self.folder)?;
        let report = self.folder.join("report.jsonl");
        let start = Instant::now();
        let mut running = Running(
            self.command(&report)
                .spawn()
                .with_context(|| format!("cannot start {PROGRAM}"))?,
        );
        while running.0.try_wait()?.is_none() {
            if start.elapsed() > self.time_limit {
                bail!("no verdict within {:?}", self.time_limit);
            }
            thread::sleep(PAUSE);
        }
        Report::parse(&fs::read_to_string(&report).unwrap_or_default())
    }

    /// How many tests passed, by what the consoles show.
    pub(super) fn tests_passed(&self) -> u64 {
        let shown = self
            .consoles()
            .map(|console| fs::read(console).unwrap_or_default());
        String::from_utf8_lossy(&shown.concat())
            .lines()
            .filter_map(|line| line.strip_prefix("test result: ok. "))
            .filter_map(|line| line.split(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    /// What the tests print, and on the first what the kernel prints: the
    /// guest runs two files of tests at a time.
    pub(super) fn consoles(&self) -> [PathBuf; 2] {
        ["console.log", "console-2.log"].map(|name| self.folder.join(name))
    }

    /// Emulated, for KVM is not everywhere, and a machine in a machine that
    /// has it may hang. A panic ends it at once.
    fn command(&self, report: &Path) -> Command {
        let [console, second] = self.consoles();
        let serial = |path: &Path| format!("file:{}", path.display());
        let mut qemu = self.emulator.command();
        qemu.args([
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max",
            "-smp",
            "2",
            "-m",
            MEMORY,
        ])
        .args([
            "-nodefaults",
            "-display",
            "none",
            "-no-reboot",
            "-net",
            "none",
        ])
        .args(["-serial", &serial(&console), "-serial", &serial(report)])
        .args(["-serial", &serial(&second)])
        .arg("-kernel")
        .arg(self.kernel)
        .arg("-initrd")
        .arg(self.initramfs)
        .arg("-append")
        .arg(format!(
            "console=ttyS0 loglevel=4 panic=-1 {} rdinit=/init -- {}",
            self.mode.parameter(),
            self.mode.suite().path()
        ))
        .stdin(Stdio::null());
        qemu
    }
}
