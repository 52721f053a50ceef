//! `cargo xtask demo`: what an operator sees, in a few seconds.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use crate::stage::{INTERVAL, Stage, THRESHOLD};
use crate::workspace::Workspace;
use crate::{build_observer, process, root, say};

/// Time to watch an agent beat, three times.
const A_WHILE: Duration = INTERVAL
    .saturating_mul(2)
    .saturating_add(Duration::from_millis(100));

/// `cargo xtask demo`
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Args {
    /// Use the observer that was built before (sudo starts the demo so)
    #[arg(long, hide = true)]
    built: bool,
}

/// Builds as whoever we are, then plays the demo as root.
pub(crate) fn execute(workspace: &Workspace, args: Args) -> Result<()> {
    if !args.built {
        build_observer::build(workspace, false)?;
    }
    if root::is_root() {
        play(workspace)
    } else {
        become_root()
    }
}

fn become_root() -> Result<()> {
    let mut demo = Command::new(env::current_exe().context("this program has no path")?);
    demo.args(["demo", "--built"]);
    let mut demo = root::command(demo)?;
    say::fact("as root", process::shell_line(&demo));
    let error = demo.exec();
    Err(error).with_context(|| process::cannot_start(&demo))
}

fn play(workspace: &Workspace) -> Result<()> {
    let stage = Stage::new(workspace)?;
    say::heading("An observer starts. It attests each sender through eBPF");
    let mut observer = stage.observer()?;
    scenes(&stage)?;
    say::heading("The observer is stopped (SIGTERM), and logs what it counted");
    observer.stop()?;
    say::heading("Your turn: cargo xtask run");
    Ok(())
}

/// The agents end where they go out of scope.
fn scenes(stage: &Stage) -> Result<()> {
    say::heading("Two honest agents beat twice a second. The kernel says who sends each beat");
    let victim = stage.agent(&[])?;
    let _other = stage.agent(&["--status", "degraded", "--payload", "42"])?;
    sleep(A_WHILE);
    forgery(stage, victim.pid())?;
    silence(stage)
}

fn forgery(stage: &Stage, victim: u32) -> Result<()> {
    let claim = victim.to_string();
    let mut forger = stage.forger(&["--count", "2", "--claim-pid", &claim])?;
    say::heading(format_args!(
        "A forger (pid {}) claims to be the first agent (pid {victim})",
        forger.pid()
    ));
    forger.finish().context("the forger could not send")?;
    sleep(INTERVAL);
    Ok(())
}

fn silence(stage: &Stage) -> Result<()> {
    let silent = stage.agent(&[])?;
    say::heading(format_args!("A third agent (pid {}) beats", silent.pid()));
    sleep(A_WHILE);
    let threshold = THRESHOLD.as_millis();
    say::heading(format_args!(
        "It hangs (SIGSTOP): still in the process list, yet silent for {threshold} ms"
    ));
    silent.signal(Signal::STOP)?;
    sleep(THRESHOLD.saturating_add(INTERVAL));
    say::heading("It comes back (SIGCONT)");
    silent.signal(Signal::CONT)?;
    sleep(A_WHILE);
    Ok(())
}
