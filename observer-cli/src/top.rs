//! `observer top`: a live view of a running observer.

mod app;
mod hangup;
mod view;

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Args, value_parser};
use crossterm::event::EventStream;
use futures_util::StreamExt as _;
use ratatui::DefaultTerminal;

use self::app::{App, Next};
use crate::control::{MAX_ROWS, fetch_status};
use crate::daemon_status::DaemonStatus;
use crate::signals::Shutdown;

/// `observer top`
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Control socket of the observer, as given to `observer run --control`
    #[arg(long, value_name = "PATH")]
    control: PathBuf,

    /// Time between two requests of the status, in milliseconds
    #[arg(long, value_name = "MS", value_parser = value_parser!(u64).range(100..=60_000), default_value_t = 1000)]
    interval_ms: u64,
}

pub(crate) fn execute(args: &Top) -> anyhow::Result<()> {
    ensure!(
        io::stdout().is_terminal() && io::stdin().is_terminal(),
        "observer top needs a terminal; for scripts there is `observer status --json`"
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    hangup::end_with_terminal().context("cannot watch the terminal")?;
    let terminal = ratatui::try_init().context("cannot use the terminal")?;
    let result = runtime.block_on(watch(args, terminal));
    // Whatever happened, the terminal has to be as the shell left it.
    ratatui::try_restore().context("cannot restore the terminal")?;
    result
}

/// Requests the status, draws it and handles keys until it is to stop.
async fn watch(args: &Top, mut terminal: DefaultTerminal) -> anyhow::Result<()> {
    let interval = Duration::from_millis(args.interval_ms);
    let mut shutdown = Shutdown::new()?;
    let mut keys = EventStream::new();
    let mut app = App::new();
    let mut requested = app.rows();
    let mut request = Box::pin(fetch_after(&args.control, requested, Duration::ZERO));
    loop {
        terminal.draw(|frame| view::draw(frame, &mut app))?;
        if app.lacks_agents(requested) {
            requested = app.rows();
            request.set(fetch_after(&args.control, requested, Duration::ZERO));
        }
        tokio::select! {
            _ = shutdown.requested() => return Ok(()),
            status = &mut request => {
                app.update(status);
                requested = app.rows();
                request.set(fetch_after(&args.control, requested, interval));
            }
            event = keys.next() => match event {
                Some(event) => if app.handle(&event?) == Next::Stop {
                    return Ok(());
                },
                None => return Ok(()),
            }
        }
    }
}

/// Requests the status after some time.
async fn fetch_after(control: &Path, rows: usize, after: Duration) -> anyhow::Result<DaemonStatus> {
    tokio::time::sleep(after).await;
    fetch_status(control, rows.min(MAX_ROWS)).await
}
