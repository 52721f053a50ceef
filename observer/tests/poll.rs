//! The library's own loop, on sockets for which nothing has to be attested.

use std::process;
use std::time::{Duration, Instant};

use observer::events::event::{BeatOrigin, Event};
use observer::{AttestMode, Observer};
use observer_testing::{connect, frame, udp_socket};

/// One pass reads every socket, and each beat has its event. Where the
/// operator wants no eBPF, the credentials of a Unix socket have to do.
#[test]
fn each_way_in_has_its_turn() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let mut observer = Observer::builder()
        .socket(&path)
        .threshold(Duration::from_mins(1))
        .attest(AttestMode::Off)
        .udp("127.0.0.1:0".parse().unwrap())
        .udp("[::1]:0".parse().unwrap())
        .bind()
        .unwrap();
    let agent = connect(&path).unwrap();
    agent.send(&frame(process::id(), 1).encode()).unwrap();
    for (to, pid) in observer.udp_listeners().zip([1001, 1002]) {
        let agent = udp_socket(to).unwrap();
        agent.send_to(&frame(pid, 1).encode(), to).unwrap();
    }
    let mut beats = Vec::new();
    let end = Instant::now() + Duration::from_secs(10);
    while beats.len() < 3 && Instant::now() < end {
        while let Some(event) = observer.poll() {
            let Event::Beat { pid, origin, .. } = event else {
                panic!("{event:?}");
            };
            beats.push((pid, origin));
        }
        observer.wait(Some(Duration::from_millis(100))).unwrap();
    }
    beats.sort_unstable_by_key(|(pid, _)| *pid);
    let mut expected = [
        (process::id(), BeatOrigin::KernelAttested),
        (1001, BeatOrigin::NetworkUnverified),
        (1002, BeatOrigin::NetworkUnverified),
    ];
    expected.sort_unstable_by_key(|(pid, _)| *pid);
    assert_eq!(beats, expected);
}
