//! `cargo xtask vm`: the end-to-end tests on the kernels that users run.

mod build;
mod host;
mod image;
mod kernel;
mod mode;
mod qemu;
mod report;
mod suite;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::workspace::{Workspace, from_here};
use crate::{apt, process, programs, say};
use image::Image;
use kernel::Kernel;
use mode::{Lockdown, Mode, Preempt};
use qemu::{Emulator, Machine};
use report::Report;
use table::Column;

/// What booting a guest needs besides what the tests need: a program, and the
/// package that has it.
const TOOLS: [(&str, &str); 3] = [("cpio", "cpio"), ("xz", "xz-utils"), ("strip", "binutils")];

/// Series of kernels: those of Debian 12 and 13.
const SERIES: [&str; 2] = ["6.1", "6.12"];

/// How many files of tests are named for the time that they took in a guest.
const SHOWN_STEPS: usize = 4;

/// Where the tables are that readers see.
const TABLES: &str = "docs/kernels.md";

/// `cargo xtask vm`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Series of kernels, of those that Debian has; may be given several
    /// times [default: 6.1 and 6.12]
    #[arg(long, value_name = "SERIES")]
    kernel: Vec<String>,

    /// Lockdown state to boot with; may be given several times [default: all,
    /// or none with --preempt]
    #[arg(long, value_name = "STATE", value_enum)]
    lockdown: Vec<Lockdown>,

    /// How a kernel preempts; may be given several times. Such guests run the
    /// tests that are about it, without lockdown [default: all, or none with
    /// --lockdown]
    #[arg(long, value_name = "HOW", value_enum)]
    preempt: Vec<Preempt>,

    /// Guests that run at the same time
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: usize,

    /// Time that each guest has, in seconds
    #[arg(long, value_name = "S", default_value_t = 1500)]
    time_limit_s: u64,
}

impl Args {
    /// The requested modes; all, if none was requested.
    fn modes(&self) -> Vec<Mode> {
        let is_choice = !self.lockdown.is_empty() || !self.preempt.is_empty();
        let (lockdown, preempt) = if is_choice {
            (&self.lockdown[..], &self.preempt[..])
        } else {
            (Lockdown::value_variants(), Preempt::value_variants())
        };
        let locked = lockdown.iter().map(|&lockdown| Mode::Locked(lockdown));
        let preempting = preempt.iter().map(|&preempt| Mode::Preempting(preempt));
        locked.chain(preempting).collect()
    }
}

/// A kernel in one of its modes.
struct Guest {
    series: String,
    mode: Mode,
    kernel: PathBuf,
    initramfs: PathBuf,
}

impl Guest {
    fn name(&self) -> String {
        format!("{} {}", self.series, self.mode.name())
    }
}

/// Boots each kernel in each state, runs the tests in it, prints how it went,
/// and holds the tables of `docs/kernels.md` against what was found.
pub(crate) fn execute(workspace: &Workspace, args: &Args) -> Result<()> {
    let folder = workspace.target().join("vm");
    ensure_tools()?;
    let emulator = Emulator::ensure(workspace)?;
    let built = build::build(workspace)?;
    let steps = suite::steps(&built, &workspace.observer());
    let image = built.lay_out(workspace, &steps, &folder.join("root"))?;
    let guests = guests(args, &image, &folder)?;
    for (what, why) in suite::left_out(&steps) {
        say::bad("left out", format_args!("{what}: {why}"));
    }
    let time_limit = Duration::from_secs(args.time_limit_s);
    let reports = in_parallel(&guests, args.jobs, |guest| {
        run(guest, &emulator, &folder, time_limit)
    });
    let failed = reports.iter().filter(|report| report.is_none()).count();
    if failed > 0 {
        bail!("{failed} of {} guests failed", guests.len());
    }
    let reports: Vec<Report> = reports.into_iter().flatten().collect();
    let host = host::survey(&steps, &folder.join("host"))?;
    let series = host::series();
    let mut columns: Vec<Column<'_>> = guests
        .iter()
        .zip(&reports)
        .filter(|(guest, _)| matches!(guest.mode, Mode::Locked(_)))
        .map(|(guest, report)| Column {
            kernel: &guest.series,
            lockdown: guest.mode.name(),
            report,
        })
        .collect();
    columns.push(Column {
        kernel: &series,
        lockdown: host.facts.get("lockdown").map_or("?", String::as_str),
        report: &host,
    });
    show(workspace, &columns)
}

fn ensure_tools() -> Result<()> {
    programs::ensure_installed()?;
    let missing: Vec<String> = TOOLS
        .iter()
        .filter(|(program, _)| process::find_on_path(program).is_none())
        .map(|(_, package)| (*package).to_owned())
        .collect();
    apt::ensure(&missing).with_context(|| {
        format!(
            "virtual machines need {}; on Debian: {}",
            missing.join(", "),
            apt::by_hand(&missing)
        )
    })
}

fn guests(args: &Args, image: &Image, folder: &Path) -> Result<Vec<Guest>> {
    let all_series = SERIES.map(String::from);
    let series = some_or_all(&args.kernel, &all_series);
    let modes = args.modes();
    let mut guests = Vec::new();
    for series in series {
        let kernel = Kernel::fetch(series, &folder.join("kernels"))?;
        let initramfs = folder.join(format!("{series}.cpio"));
        image.pack(&kernel.modules, &initramfs)?;
        guests.extend(modes.iter().map(|&mode| Guest {
            series: series.clone(),
            mode,
            kernel: kernel.image.clone(),
            initramfs: initramfs.clone(),
        }));
    }
    Ok(guests)
}

/// What was requested, or all there is.
fn some_or_all<'a, T>(some: &'a [T], all: &'a [T]) -> &'a [T] {
    if some.is_empty() { all } else { some }
}

/// Boots a guest and prints how it went; what it reported, if it passed.
fn run(guest: &Guest, emulator: &Emulator, folder: &Path, time_limit: Duration) -> Option<Report> {
    let machine = Machine {
        emulator,
        kernel: &guest.kernel,
        initramfs: &guest.initramfs,
        mode: guest.mode,
        folder: &folder.join(guest.name().replace([' ', '='], "-")),
        time_limit,
    };
    let start = Instant::now();
    let mut result = machine.run();
    // The emulator now and then breaks a kernel that patches itself while
    // another CPU runs (an `int3` that nobody expects), before our init.
    if result.as_ref().is_ok_and(Report::is_empty) {
        let name = guest.name();
        say::bad(
            "again",
            format_args!("{name}: its kernel died before its first program"),
        );
        result = machine.run();
    }
    let failure = match result {
        Ok(report) => match report.failure() {
            None => {
                say_passed(guest, &report, machine.tests_passed(), start.elapsed());
                return Some(report);
            }
            Some(failure) => failure,
        },
        Err(error) => format!("{error:#}"),
    };
    let consoles = machine.consoles();
    let consoles = consoles.map(|console| from_here(&console).display().to_string());
    say::bad(
        "FAILED",
        format_args!(
            "{}: {failure}; its consoles: {}",
            guest.name(),
            consoles.join(", ")
        ),
    );
    None
}

/// How many tests a guest passed, and which files took longest.
fn say_passed(guest: &Guest, report: &Report, tests: u64, time: Duration) {
    let (name, files) = (guest.name(), report.steps.len());
    say::good(
        "passed",
        format_args!("{name}: {tests} tests of {files} files, {time:.1?}"),
    );
    let slowest: Vec<String> = report
        .slowest(SHOWN_STEPS)
        .iter()
        .map(|step| format!("{} {:.0} s", step.name, step.seconds))
        .collect();
    say::fact("slowest", format_args!("{name}: {}", slowest.join(", ")));
}

/// Prints the tables, and fails if `docs/kernels.md` has others. Its row of
/// this host's kernel is that of another host, as a rule.
fn show(workspace: &Workspace, columns: &[Column<'_>]) -> Result<()> {
    let (_host, guests) = columns.split_last().context("no machine")?;
    let promised = [table::kernels(guests), table::attacks(columns)].concat();
    let shown = [
        table::programs(columns),
        table::kernels(columns),
        table::attacks(columns),
    ];
    for line in shown.iter().flatten() {
        say::show(line);
    }
    let documented = fs::read_to_string(workspace.root().join(TABLES))
        .with_context(|| format!("cannot read {TABLES}"))?;
    let is_undocumented = |line: &&String| !documented.lines().any(|known| known == line.as_str());
    let new: Vec<&String> = promised.iter().filter(is_undocumented).collect();
    for line in &new {
        say::bad("new", line);
    }
    if !new.is_empty() {
        bail!("{TABLES} has no such lines in its tables");
    }
    Ok(())
}

/// Does the work for each item, so many at a time; the results are in the
/// items' order.
fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    jobs: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = Mutex::new(items.iter().enumerate());
    let done = Mutex::new(Vec::new());
    let worker = || {
        loop {
            let item = next.lock().ok().and_then(|mut items| items.next());
            let Some((index, item)) = item else { return };
            let result = work(item);
            if let Ok(mut done) = done.lock() {
                done.push((index, result));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(worker);
        }
    });
    let mut done = done.into_inner().unwrap_or_default();
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}
