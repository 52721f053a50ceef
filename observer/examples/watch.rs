//! Prints what an observer reports, without an event loop of anybody's:
//! `cargo run --example watch -- SOCKET`.

#![expect(clippy::print_stdout, reason = "an example")]

use std::env;
use std::error::Error;
use std::time::Duration;

use observer::{Event, Observation, Observer, Report};

fn main() -> Result<(), Box<dyn Error>> {
    let socket = env::args().nth(1).ok_or("watch SOCKET")?;
    let mut observer = Observer::builder()
        .socket(socket)
        .threshold(Duration::from_secs(2))
        .bind()?;
    loop {
        while let Some(report) = observer.observe() {
            match report {
                Report::Observation(observation) => print(&observation),
                Report::Notice(notice) => println!("{}: {notice:?}", notice.name()),
            }
        }
        observer.wait(None)?;
    }
}

fn print(Observation { event, evidence }: &Observation) {
    let uid = evidence.sender.and_then(|sender| sender.uid);
    match event {
        Event::Beat {
            pid, nonce, origin, ..
        } => println!("{pid} of user {uid:?} is alive: beat {nonce}, {origin:?}"),
        Event::Stall { pid, .. } => println!("{pid} is silent"),
        Event::AuthFailure {
            claimed_pid, cause, ..
        } => println!("not {claimed_pid}, but user {uid:?}: {}", cause.name()),
        other => println!("{other:?}"),
    }
}
