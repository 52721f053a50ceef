//! `observer top`: a live view of a running observer.

mod app;
mod view;

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::daemon_status::DaemonStatus;
use anyhow::{Context as _, ensure};
use clap::{Args, value_parser};
use crossterm::event::EventStream;
use futures_util::StreamExt as _;
use ratatui::DefaultTerminal;

use self::app::{App, Next};
use super::signals::Shutdown;
use super::status::{MAX_ROWS, ask};

/// `observer top`
#[derive(Debug, Args)]
pub(super) struct Top {
    /// Control socket of the observer, as it was given to `observer run
    /// --control`
    #[arg(long, value_name = "PATH")]
    control: PathBuf,

    /// Time between two looks, in milliseconds
    #[arg(long, value_name = "MS", value_parser = value_parser!(u64).range(100..=60_000), default_value_t = 1000)]
    interval_ms: u64,
}

pub(super) fn execute(args: &Top) -> anyhow::Result<()> {
    ensure!(
        io::stdout().is_terminal() && io::stdin().is_terminal(),
        "observer top draws on a terminal; for scripts there is `observer status --json`"
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    let terminal = ratatui::try_init().context("cannot use the terminal")?;
    let result = runtime.block_on(watch(args, terminal));
    // Whatever happened, the shell gets its terminal back.
    ratatui::try_restore().context("cannot restore the terminal")?;
    result
}

/// Looks, draws and heeds keys until told to stop.
async fn watch(args: &Top, mut terminal: DefaultTerminal) -> anyhow::Result<()> {
    let interval = Duration::from_millis(args.interval_ms);
    let mut shutdown = Shutdown::new()?;
    let mut keys = EventStream::new();
    let mut app = App::new();
    let mut look = Box::pin(look(&args.control, app.rows(), Duration::ZERO));
    loop {
        terminal.draw(|frame| view::draw(frame, &mut app))?;
        tokio::select! {
            _ = shutdown.requested() => return Ok(()),
            status = &mut look => {
                app.saw(status);
                look.set(self::look(&args.control, app.rows(), interval));
            }
            event = keys.next() => match event {
                Some(event) => if app.heed(&event?) == Next::Stop {
                    return Ok(());
                },
                None => return Ok(()),
            }
        }
    }
}

/// Asks after a while.
async fn look(control: &Path, rows: usize, after: Duration) -> anyhow::Result<DaemonStatus> {
    tokio::time::sleep(after).await;
    ask(control, rows.min(MAX_ROWS)).await
}
