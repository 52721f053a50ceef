//! The loader's own part: forks, passes on commands, and collects results.

use std::io::{self, BufRead as _, Write as _};
use std::panic::{self, AssertUnwindSafe};
use std::process;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getppid};

use super::shared::{Cell, Shared};
use super::{Outcome, Spec, agent, flood};

/// For all to be forked, and for all to end.
const PATIENCE: Duration = Duration::from_mins(1);

/// Forks everyone, prints `ready`, then does what the lines of stdin command.
pub fn serve(spec: &Spec) -> Result<()> {
    let agents = usize::try_from(spec.agents)?;
    let shared = Shared::new(agents + spec.floods.len())?;
    let stage = shared.stage;
    let mut brood = Brood::default();
    let (agent_cells, flood_cells) = shared.cells.split_at(agents);
    for (index, cell) in (0..).zip(agent_cells) {
        brood.fork(|| agent::run(&spec.socket, spec.pace, index, stage, cell))?;
    }
    brood.wait_until(|| stage.ready.load(Relaxed) == spec.agents)?;
    let victim = agent_cells.first().map_or(0, |cell| cell.pid.load(Relaxed));
    for (&kind, cell) in spec.floods.iter().zip(flood_cells) {
        brood.fork(|| flood::run(&spec.socket, kind, victim, stage, cell))?;
    }
    let all = u32::try_from(shared.cells.len())?;
    brood.wait_until(|| stage.ready.load(Relaxed) == all)?;
    print_line("ready")?;
    for line in io::stdin().lock().lines() {
        match line?.as_str() {
            "go" => stage.start()?,
            "calm" => stage.calm(),
            "stop" => {
                stage.stop();
                brood.wait_until(|| stage.done.load(Relaxed) == all)?;
                let read = |cells: &[Cell]| cells.iter().map(Cell::read).collect();
                print_line(&serde_json::to_string(&Outcome {
                    started_ns: stage.started_ns(),
                    agents: read(agent_cells),
                    floods: read(flood_cells),
                })?)?;
                continue;
            }
            "leave" => {
                stage.leave()?;
                brood.join()?;
                return print_line("done");
            }
            other => bail!("unknown command {other:?}"),
        }
        print_line("done")?;
    }
    Ok(())
}

fn print_line(line: &str) -> Result<()> {
    Ok(writeln!(io::stdout(), "{line}")?)
}

/// Processes that were forked; killed by their own pids when dropped.
#[derive(Default)]
struct Brood(Vec<Pid>);

impl Brood {
    fn fork(&mut self, child: impl FnOnce() -> io::Result<()>) -> Result<()> {
        let parent = Pid::this();
        // SAFETY: this process has no other threads.
        match unsafe { fork() }.context("cannot fork")? {
            ForkResult::Parent { child } => {
                self.0.push(child);
                Ok(())
            }
            ForkResult::Child => process::exit(be_child(parent, child)),
        }
    }

    /// Waits for something that they do, none of which should end meanwhile.
    fn wait_until(&mut self, is_so: impl Fn() -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !is_so() {
            if let Some(ended) = waitpid(None, Some(WaitPidFlag::WNOHANG))?.pid() {
                self.0.retain(|pid| *pid != ended);
                bail!("a sender failed");
            }
            ensure!(Instant::now() < end, "senders take too long");
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Waits for all to end, as they should.
    fn join(&mut self) -> Result<()> {
        let (end, mut failed) = (Instant::now() + PATIENCE, 0);
        while let Some(&pid) = self.0.last() {
            match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) if Instant::now() > end => bail!("{pid} does not end"),
                Ok(WaitStatus::StillAlive) => thread::sleep(Duration::from_millis(1)),
                Ok(WaitStatus::Exited(_, 0)) => drop(self.0.pop()),
                Ok(_badly) => {
                    self.0.pop();
                    failed += 1;
                }
                Err(Errno::EINTR) => {}
                Err(error) => bail!("cannot wait for {pid}: {error}"),
            }
        }
        ensure!(failed == 0, "{failed} senders failed");
        Ok(())
    }
}

/// The exit code of a child that does its work, and dies with its parent.
fn be_child(parent: Pid, child: impl FnOnce() -> io::Result<()>) -> i32 {
    // The parent may have died before that was set.
    if set_pdeathsig(Signal::SIGKILL).is_err() || getppid() != parent {
        return 1;
    }
    // Not to unwind into the parent's part, which would kill its siblings.
    match panic::catch_unwind(AssertUnwindSafe(child)) {
        Ok(Ok(())) => 0,
        // Not printed: thousands may fail for the same reason.
        Ok(Err(_)) | Err(_) => 1,
    }
}

impl Drop for Brood {
    fn drop(&mut self) {
        for &pid in &self.0 {
            // Both fail only if it has ended and was waited for.
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
        }
    }
}
