//! Receiving, with real sockets.

use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg, sockopt};

use super::{BATCH, Batch, Datagram, FEW, Payload, Receiver, ask_for_time_and_credentials};

/// A sender and the socket it sends to. The queue of such a pair is bounded
/// by the sender's buffer only (`unix_dgram_sendmsg` spares a peer that is
/// connected back).
fn pair() -> (UnixDatagram, UnixDatagram) {
    let (sender, socket) = UnixDatagram::pair().expect("sockets");
    ask_for_time_and_credentials(&socket).expect("options");
    (sender, socket)
}

fn receive_all(socket: BorrowedFd<'_>) -> Vec<Datagram> {
    let mut receiver = Receiver::for_unix();
    let mut all = Vec::new();
    loop {
        let batch = receiver.receive(socket).expect("receives");
        all.extend((0..batch.received).map(|index| receiver.get(index).expect("received")));
        if batch.is_drained {
            return all;
        }
    }
}

#[test]
fn lengths_are_told_apart_and_credentials_come_along() {
    let (sender, socket) = pair();
    for length in 0..=100 {
        sender.send(&vec![7; length]).expect("sends");
        let [datagram] = receive_all(socket.as_fd())[..] else {
            panic!("not one datagram");
        };
        let expected = match length {
            32 => Payload::Frame([7; 32]),
            _ => Payload::WrongLength,
        };
        assert_eq!(datagram.payload, expected, "{length} bytes");
        let credentials = datagram.credentials.expect("credentials");
        assert_eq!(credentials.pid, process::id());
        assert_eq!(credentials.uid, rustix::process::getuid().as_raw());
        assert_eq!(credentials.gid, rustix::process::getgid().as_raw());
        assert!(!datagram.truncated_control);
    }
}

#[test]
fn an_empty_queue_is_no_error() {
    let (_sender, socket) = pair();
    assert!(receive_all(socket.as_fd()).is_empty());
}

/// Links of this process's descriptors that lead to `marker`.
fn copies_of(marker: &Path) -> usize {
    fs::read_dir("/proc/self/fd")
        .expect("/proc")
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target == marker)
        .count()
}

#[test]
fn foreign_descriptors_never_arrive() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let marker = scratch.path().join("marker");
    let (sender, socket) = pair();
    let file = File::create(&marker).expect("a file");
    // 253 is SCM_MAX_FD, `include/net/scm.h`.
    for count in [1, 2, 52, 253] {
        let mut received = Vec::new();
        for _ in 0..500 {
            send_descriptors(&sender, &vec![file.as_fd(); count]);
            received.extend(receive_all(socket.as_fd()));
        }
        assert_eq!(copies_of(&marker), 1, "after datagrams with {count}");
        assert_eq!(received.len(), 500);
        for datagram in received {
            assert!(datagram.truncated_control);
            assert_eq!(datagram.payload, Payload::Frame([7; 32]));
            let sent_by = datagram.credentials.expect("credentials").pid;
            assert_eq!(sent_by, process::id());
        }
    }
}

fn send_descriptors(sender: &UnixDatagram, descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); 2048];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    let payload = [IoSlice::new(&[7; 32])];
    sendmsg(sender, &payload, &mut control, SendFlags::empty()).expect("sends");
}

#[test]
fn a_long_queue_comes_in_full_batches_after_a_small_one_and_in_order() {
    let (sender, socket) = pair();
    let mut receiver = Receiver::for_unix();
    for number in 0..150 {
        sender.send(&[number; 32]).expect("sends");
    }
    let mut expected = 0..150;
    let rest = 150 - FEW - 2 * BATCH;
    for (size, is_drained) in [
        (FEW, false),
        (BATCH, false),
        (BATCH, false),
        (rest, true),
        (0, true),
    ] {
        let batch = receiver.receive(socket.as_fd()).expect("receives");
        let count = batch.received;
        assert_eq!((count, batch.is_drained), (size, is_drained));
        for index in 0..count {
            let datagram = receiver.get(index).expect("received");
            let number = expected.next().expect("no more than sent");
            assert_eq!(datagram.payload, Payload::Frame([number; 32]));
        }
        assert_eq!(receiver.get(count), None);
    }
}

#[test]
fn nothing_of_one_datagram_is_left_for_the_next() {
    let (sender, socket) = pair();
    let mut receiver = Receiver::for_unix();
    sender.send(&[7; 100]).expect("sends");
    sender.send(&[7; 32]).expect("sends");
    assert_eq!(
        receiver.receive(socket.as_fd()).expect("receives").received,
        2
    );
    sockopt::set_socket_passcred(&socket, false).expect("an option");
    sender.send(&[8; 32]).expect("sends");
    assert_eq!(
        receiver.receive(socket.as_fd()).expect("receives").received,
        1
    );
    let expected = Datagram {
        payload: Payload::Frame([8; 32]),
        credentials: None,
        source: None,
        truncated_control: false,
        mark: None,
    };
    assert_eq!(receiver.get(0), Some(expected));
    assert_eq!(receiver.get(1), None);
}

#[test]
fn a_failure_is_returned_and_leaves_no_batch() {
    let (sender, socket) = pair();
    let mut receiver = Receiver::for_unix();
    sender.send(&[7; 32]).expect("sends");
    receiver.receive(socket.as_fd()).expect("receives");
    let no_socket = File::open("/dev/null").expect("a file");
    assert!(receiver.receive(no_socket.as_fd()).is_err());
    assert_eq!(receiver.get(0), None);
}

/// A receiver to which `recvmmsg` is refused.
fn one_by_one() -> Receiver {
    let mut receiver = Receiver::for_unix();
    receiver.fall_back(io::Error::from_raw_os_error(libc::ENOSYS));
    receiver
}

/// The same batches, datagrams and credentials, whichever call is used.
#[test]
fn one_by_one_the_same_is_received() {
    let (sender, socket) = pair();
    let mut receivers = [Receiver::for_unix(), one_by_one()];
    let all = receivers.each_mut().map(|receiver| {
        for number in 0..100 {
            let length = if number % 10 == 0 { 40 } else { 32 };
            sender.send(&vec![number; length]).expect("sends");
        }
        let mut all = Vec::new();
        loop {
            let batch = receiver.receive(socket.as_fd()).expect("receives");
            all.push((
                batch,
                (0..=BATCH).map(|at| receiver.get(at)).collect::<Vec<_>>(),
            ));
            if batch.is_drained {
                return all;
            }
        }
    });
    let [together, one_by_one] = all;
    assert_eq!(together, one_by_one);
    assert_eq!(together.len(), 3);
    let batch = receivers[1].receive(socket.as_fd()).expect("receives");
    assert_eq!(batch, Batch::NONE);
}

/// A failure does not pass for an empty queue.
#[test]
fn one_by_one_a_failure_is_no_empty_queue() {
    let mut receiver = one_by_one();
    let no_socket = File::open("/dev/null").expect("a file");
    assert!(receiver.receive(no_socket.as_fd()).is_err());
    assert!(receiver.try_receive(no_socket.as_fd()).is_err());
}

#[test]
fn proving_that_it_can_receive_takes_nothing() {
    let (sender, socket) = pair();
    let mut receiver = Receiver::for_unix();
    receiver.try_receive(socket.as_fd()).expect("empty");
    sender.send(&[7; 32]).expect("sends");
    for mut receiver in [Receiver::for_unix(), one_by_one()] {
        receiver.try_receive(socket.as_fd()).expect("not empty");
        assert_eq!(receiver.get(0), None);
    }
    assert!(receiver.one_by_one().is_none());
    assert_eq!(receive_all(socket.as_fd()).len(), 1);
    let no_socket = File::open("/dev/null").expect("a file");
    assert!(receiver.try_receive(no_socket.as_fd()).is_err());
}
