//! A process that sends through io_uring: `uring WHO HOW SOCKET`, where SOCKET
//! is a path or a UDP address.
//!
//! WHO submits: `self`, a `thread` of it, or a `child` that inherited the
//! ring while the parent only waits (`child-honest` claims itself, `child`
//! its parent; the parent of `robbed` sends a beat itself after twenty of
//! these). HOW: `inline`, `async`, `sqpoll`, `sqpoll-async`; with
//! `-renamed` the kernel's threads get the name of an innocent worker first.

use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::id;
use std::ptr::NonNull;
use std::thread;
use std::time::Duration;

use io_uring::{IoUring, opcode, squeue, types};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use observer_common::frame::FRAME_LEN;
use observer_testing::frame;
use observer_tests::process::{self, arguments};
use observer_tests::socket::Socket;

fn main() {
    let [who, how, socket] = arguments("uring WHO HOW SOCKET");
    let sender = Sender::new(Socket::connect(&socket).into(), &how);
    println!("{}", id());
    match who.as_str() {
        "self" => sender.send(id()),
        "thread" => thread::scope(|scope| {
            scope.spawn(|| {
                Sender::new(sender.socket, &how).send(id());
            });
        }),
        "child" => in_child(sender, id(), 1),
        "robbed" => robbed(sender, &socket),
        "child-honest" => in_child(sender, 0, 1),
        other => panic!("unknown submitter {other}"),
    }
}

/// A ring, and a buffer that a child shares: a kernel thread of the parent
/// reads the parent's memory.
struct Sender {
    ring: IoUring,
    buffer: NonNull<[u8; FRAME_LEN]>,
    socket: OwnedFd,
    flags: squeue::Flags,
    renames: bool,
}

impl Sender {
    fn new(socket: OwnedFd, how: &str) -> Self {
        let mut builder = IoUring::builder();
        if how.starts_with("sqpoll") {
            builder.setup_sqpoll(10_000);
        }
        let is_async = how.contains("async");
        Self {
            ring: builder.build(8).expect("a ring"),
            buffer: shared_buffer(),
            socket,
            flags: if is_async {
                squeue::Flags::ASYNC
            } else {
                squeue::Flags::empty()
            },
            renames: how.ends_with("renamed"),
        }
    }

    fn send(mut self, claimed: u32) {
        self.submit(claimed, 1);
    }

    fn submit(&mut self, claimed: u32, nonce: u64) {
        if self.renames {
            rename_kernel_threads();
        }
        let frame = frame(claimed, nonce).encode();
        // SAFETY: the buffer is a live mapping of this size, and nobody else
        // writes to it.
        unsafe { self.buffer.write(frame) };
        let length = u32::try_from(FRAME_LEN).expect("small");
        let fd = types::Fd(self.socket.as_raw_fd());
        let entry = opcode::Send::new(fd, self.buffer.as_ptr().cast(), length)
            .build()
            .flags(self.flags);
        // SAFETY: buffer and socket live until the completion below.
        unsafe { self.ring.submission().push(&entry) }.expect("there is room");
        self.ring.submit_and_wait(1).expect("it is carried out");
        let result = self.ring.completion().next().map(|done| done.result());
        assert_eq!(result, Some(32));
    }
}

fn shared_buffer() -> NonNull<[u8; FRAME_LEN]> {
    let length = FRAME_LEN.try_into().expect("not zero");
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a fresh mapping at an address of the kernel's choosing disturbs
    // no other memory.
    unsafe { mmap_anonymous(None, length, protection, MapFlags::MAP_SHARED) }
        .expect("a mapping")
        .cast()
}

/// Gives every kernel-made thread of the process the name that an io-wq
/// worker of its first thread has.
fn rename_kernel_threads() {
    thread::sleep(Duration::from_millis(50));
    for task in fs::read_dir("/proc/self/task").expect("/proc").flatten() {
        if task.file_name().to_str() != Some(&id().to_string()) {
            let name = format!("iou-wrk-{}", id());
            fs::write(task.path().join("comm"), name).expect("our own thread");
        }
    }
}

/// A parent whose ring another uses, and who sends a beat itself.
fn robbed(sender: Sender, path: &str) {
    in_child(sender, id(), 20);
    let beat = frame(id(), 1).encode();
    Socket::connect(path).send(&beat);
}

/// The child submits on the ring that it inherited; the parent only waits.
fn in_child(mut sender: Sender, claimed: u32, times: u64) {
    process::in_child(|| {
        println!("{}", id());
        let claimed = if claimed == 0 { id() } else { claimed };
        for nonce in 1..=times {
            sender.submit(claimed, nonce);
        }
    });
}
