//! An agent on the public client: `pulse SOCKET INTERVAL_MS COUNT`. It never
//! retries a beat. COUNT 0 means until stdin is closed; after its last beat
//! it stays silent until then. Prints how many beats were sent.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use observer_tests::process::{arguments, number, wait_for_end};
use varta_client::{BeatOutcome, Status, Varta};

fn main() {
    let [socket, interval_ms, count] = arguments("pulse SOCKET INTERVAL_MS COUNT");
    let (interval, count) = (Duration::from_millis(number(&interval_ms)), number(&count));
    let client = Varta::connect(socket).expect("the observer is there");
    let ended = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let beats = scope.spawn(|| beat(client, interval, count, &ended));
        wait_for_end();
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
