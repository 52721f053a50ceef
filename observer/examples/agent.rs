//! An agent: beats once a second, and connects anew to an observer that was
//! started again: `cargo run --example agent -- SOCKET`.

#![expect(clippy::print_stderr, reason = "an example")]

use std::env;
use std::error::Error;
use std::os::unix::net::UnixDatagram;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use observer_common::frame::{Frame, Status};

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("agent SOCKET")?;
    let socket = UnixDatagram::unbound()?;
    // A beat that finds no room is one of many: it is not waited for.
    socket.set_nonblocking(true)?;
    let start = Instant::now();
    for nonce in 1.. {
        let frame = Frame {
            status: Status::Ok,
            pid: process::id(),
            timestamp: u64::try_from(start.elapsed().as_nanos())?,
            nonce,
            payload: 0,
        };
        // By its path each time: whoever is there now has it.
        if let Err(error) = socket.send_to(&frame.encode(), &path) {
            eprintln!("beat {nonce}: {error}");
        }
        thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}
