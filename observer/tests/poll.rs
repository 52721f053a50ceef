//! The library's own loop, on sockets for which nothing has to be attested.

use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::process;
use std::time::{Duration, Instant};

use observer::events::event::{BeatOrigin, Event, Status};
use observer::{AttestMode, Observer};
use observer_common::frame::Frame;

fn frame(pid: u32) -> [u8; 32] {
    Frame {
        status: Status::Ok,
        pid,
        timestamp: 0,
        nonce: 1,
        payload: 0,
    }
    .encode()
}

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
    let agent = UnixDatagram::unbound().unwrap();
    agent.send_to(&frame(process::id()), &path).unwrap();
    for (to, pid) in observer.udp_listeners().zip([1001, 1002]) {
        let agent = UdpSocket::bind((to.ip(), 0)).unwrap();
        agent.send_to(&frame(pid), to).unwrap();
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
