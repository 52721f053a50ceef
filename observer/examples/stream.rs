//! The same as a stream in a tokio runtime, until ctrl-c:
//! `cargo run --example stream -- SOCKET`.

#![expect(clippy::print_stdout, reason = "an example")]

use std::env;
use std::error::Error;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use observer::{Observer, Report};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let socket = env::args().nth(1).ok_or("stream SOCKET")?;
    let mut observer = Observer::builder()
        .socket(socket)
        .threshold(Duration::from_secs(2))
        .bind()?;
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => break,
            Some(report) = observer.next() => print(&report),
        }
    }
    // What was sent before is reported before the end.
    let now = Instant::now();
    let until = now.checked_add(Duration::from_secs(1)).unwrap_or(now);
    while let Some(report) = observer.drain(until)? {
        print(&report);
    }
    Ok(())
}

fn print(report: &Report) {
    match report {
        Report::Observation(observation) => {
            let event = &observation.event;
            println!("{} {:?}", event.name(), event.pid());
        }
        Report::Notice(notice) => println!("{} {:?}", notice.name(), notice.pid()),
    }
}
