//! An agent on the public client: `pulse SOCKET INTERVAL_MS COUNT`. It never
//! retries a beat. COUNT 0 means until stdin is closed; after its last beat
//! it stays until then, silent. Prints how many beats were sent.

use std::env;
use std::io::{self, BufRead as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use varta_client::{BeatOutcome, Status, Varta};

fn main() {
    let mut arguments = env::args().skip(1);
    let socket = arguments.next().expect("a socket");
    let mut number = || {
        let number = arguments.next().expect("a number");
        number.parse::<u64>().expect("a number")
    };
    let (interval, count) = (Duration::from_millis(number()), number());
    let client = Varta::connect(socket).expect("the observer is there");
    let ended = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let beats = scope.spawn(|| beat(client, interval, count, &ended));
        for line in io::stdin().lock().lines() {
            drop(line);
        }
        ended.store(true, Ordering::Relaxed);
        beats.join().expect("it does not panic")
    });
    println!("{sent}");
}

fn beat(
    mut client: Varta<impl varta_client::BeatTransport>,
    interval: Duration,
    count: u64,
    ended: &AtomicBool,
) -> u64 {
    let mut sent = 0_u64;
    for number in 1_u64.. {
        if count == 0 && ended.load(Ordering::Relaxed) {
            break;
        }
        if matches!(client.beat(Status::Ok, 0), BeatOutcome::Sent) {
            sent = sent.saturating_add(1);
        }
        if number == count {
            break;
        }
        thread::sleep(interval);
    }
    sent
}
