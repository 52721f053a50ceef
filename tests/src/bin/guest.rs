//! The first process of a virtual machine: makes it a host on which the tests
//! can run, runs the steps in the file that its argument names, reports how
//! each went, and switches the machine off.
//!
//! The file has a step on each line: a name, variables of the environment, and
//! a command with its arguments, separated by tabs; what has a `=` before the
//! command is a variable. Two steps run at a time. Reports go to the second
//! serial line, a line of JSON each. The first serial line is the console, with
//! what one of the two steps prints; the third has what the other prints.

use std::env;
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Kernel modules to load, each a file.
const MODULES: &str = "/modules";

/// The second serial line.
const REPORT: &str = "/dev/ttyS1";

/// The first and the third: one for each step that runs.
const CONSOLES: [&str; 2] = ["/dev/ttyS0", "/dev/ttyS2"];

type Failure = Box<dyn Error>;

fn main() {
    let verdict = make_host().and_then(|()| {
        let suite = env::args().nth(1).ok_or("no list of steps")?;
        run_suite(Path::new(&suite))
    });
    let verdict = match verdict {
        Ok(0) => json!({"verdict": "passed"}),
        Ok(failed) => json!({"verdict": "FAILED", "reason": format!("{failed} steps")}),
        Err(error) => json!({"verdict": "FAILED", "reason": error.to_string()}),
    };
    println!("{verdict}");
    if let Err(error) = report(&verdict) {
        println!("cannot report: {error}");
    }
    let Err(error) = reboot(RebootMode::RB_POWER_OFF);
    // The kernel panics now, which ends the machine as well.
    println!("cannot switch off: {error}");
}

fn make_host() -> Result<(), Failure> {
    for (kind, at) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("cgroup2", "/sys/fs/cgroup"),
        ("securityfs", "/sys/kernel/security"),
    ] {
        mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>)
            .map_err(|error| format!("cannot mount {kind} on {at}: {error}"))?;
    }
    for module in fs::read_dir(MODULES)? {
        let path = module?.path();
        finit_module(File::open(&path)?, c"", ModuleInitFlags::empty())
            .map_err(|error| format!("cannot load {}: {error}", path.display()))?;
    }
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()?;
    if !up.success() {
        return Err("cannot bring lo up".into());
    }
    Ok(())
}

/// Returns how many steps failed.
fn run_suite(list: &Path) -> Result<usize, Failure> {
    let list = fs::read_to_string(list)?;
    let mut waiting = list.lines();
    let mut running = CONSOLES.map(|_| None);
    let mut failed = 0;
    loop {
        for (place, console) in running.iter_mut().zip(CONSOLES) {
            if place.is_none()
                && let Some(line) = waiting.next()
            {
                *place = Some(Step::start(line, console)?);
            }
        }
        if running.iter().all(Option::is_none) {
            return Ok(failed);
        }
        // Orphans end here, too.
        let (pid, passed) = match waitpid(None, None)? {
            WaitStatus::Exited(pid, code) => (pid, code == 0),
            WaitStatus::Signaled(pid, signal, _) => {
                println!("{pid} was ended by {signal}");
                (pid, false)
            }
            _ => continue,
        };
        for place in &mut running {
            if let Some(step) = place.take_if(|step| step.pid == pid) {
                failed += usize::from(!passed);
                report(&json!({
                    "step": step.name,
                    "outcome": if passed { "passed" } else { "FAILED" },
                    "seconds": step.start.elapsed().as_secs_f64(),
                }))?;
            }
        }
    }
}

/// A step that runs.
struct Step {
    name: String,
    pid: Pid,
    start: Instant,
}

impl Step {
    fn start(line: &str, console: &str) -> Result<Self, Failure> {
        let (name, words) = line.split_once('\t').ok_or("a step without a command")?;
        let words: Vec<&str> = words.split('\t').collect();
        let variables = words.iter().take_while(|word| word.contains('=')).count();
        let (variables, command) = words.split_at(variables);
        let (program, arguments) = command.split_first().ok_or("no command")?;
        let console = OpenOptions::new().append(true).open(console)?;
        let child = Command::new(program)
            .args(arguments)
            .envs(variables.iter().filter_map(|word| word.split_once('=')))
            .stdout(console.try_clone()?)
            .stderr(console)
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        Ok(Self {
            name: name.to_owned(),
            pid: Pid::from_raw(child.id().cast_signed()),
            start: Instant::now(),
        })
    }
}

fn report(line: &Value) -> Result<(), Failure> {
    let mut serial = OpenOptions::new().append(true).open(REPORT)?;
    serial.write_all(format!("{line}\n").as_bytes())?;
    Ok(())
}
