//! The floor: a process that does nothing but receive datagrams with
//! `SCM_CREDENTIALS`. It blocks in the receive itself, looks at no content,
//! and keeps nothing; with `--lines` it writes one for each datagram.

use std::io::{self, Write as _};
use std::mem;
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::ptr;

use anyhow::{Result, ensure};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::PassCred;
use observer_common::frame::FRAME_LEN;
use serde::{Deserialize, Serialize};

/// Datagrams that one `recvmmsg` takes at most; the observer's number.
const BATCH: usize = 64;

/// A datagram of this length ends the floor: no signal to race with a receive.
pub const STOP: &[u8] = b"stop";

/// `CMSG_SPACE(sizeof(struct ucred))`, rounded up.
const CONTROL_LEN: usize = 64;

/// `observer-bench floor`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to receive
    #[arg(long)]
    socket: PathBuf,

    /// Receive in batches, with recvmmsg
    #[arg(long)]
    batch: bool,

    /// Write a line for each datagram, as the observer does
    #[arg(long)]
    lines: bool,
}

/// What a floor prints at its end.
#[derive(Debug, Serialize, Deserialize)]
pub struct Tally {
    /// Datagrams of a frame's length that came with credentials.
    pub received: u64,
}

/// Receives until [`STOP`] comes.
pub fn execute(args: &Args) -> Result<()> {
    let socket = UnixDatagram::bind(&args.socket)?;
    setsockopt(&socket, PassCred, &true)?;
    let mut tally = Tally { received: 0 };
    let mut buffers = Buffers::new();
    let mut messages = buffers.messages(if args.batch { BATCH } else { 1 });
    loop {
        let count = if args.batch {
            receive_batch(socket.as_raw_fd(), &mut messages)?
        } else {
            receive(socket.as_raw_fd(), &mut messages[0])?
        };
        for (message, frame) in messages.iter_mut().zip(buffers.frames.iter()).take(count) {
            if message.msg_len as usize == STOP.len() {
                serde_json::to_writer(io::stdout(), &tally)?;
                io::stdout().flush()?;
                return Ok(());
            }
            let credentials = mem::replace(&mut message.msg_hdr.msg_controllen, CONTROL_LEN);
            ensure!(message.msg_len as usize == FRAME_LEN, "no frame");
            ensure!(credentials > 0, "no SCM_CREDENTIALS");
            tally.received += 1;
            if args.lines {
                write_line(frame)?;
            }
        }
    }
}

/// What the reader of the observer's lines looks for.
fn write_line(frame: &[u8; FRAME_LEN]) -> Result<()> {
    let [.., a, b, c, d, _, _, _, _] = *frame;
    let payload = u32::from_le_bytes([a, b, c, d]);
    let line = format!("{{\"event\":\"beat\",\"payload\":{payload}}}\n");
    Ok(io::stdout().write_all(line.as_bytes())?)
}

/// Where datagrams and their control data go.
struct Buffers {
    frames: Box<[[u8; FRAME_LEN]; BATCH]>,
    controls: Box<[Control; BATCH]>,
    vectors: Vec<libc::iovec>,
}

#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

impl Buffers {
    fn new() -> Self {
        Self {
            frames: Box::new([[0; FRAME_LEN]; BATCH]),
            controls: Box::new([Control([0; CONTROL_LEN]); BATCH]),
            vectors: Vec::new(),
        }
    }

    /// Headers that point into the buffers, which stay where they are on the
    /// heap.
    fn messages(&mut self, count: usize) -> Vec<libc::mmsghdr> {
        let vector = |frame: &mut [u8; FRAME_LEN]| libc::iovec {
            iov_base: frame.as_mut_ptr().cast(),
            iov_len: FRAME_LEN,
        };
        self.vectors = self.frames.iter_mut().map(vector).collect();
        let buffers = self.vectors.iter_mut().zip(self.controls.iter_mut());
        buffers
            .take(count)
            .map(|(vector, control)| {
                // SAFETY: all zeroes are a `mmsghdr` without any buffers.
                let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
                message.msg_hdr.msg_iov = ptr::from_mut(vector);
                message.msg_hdr.msg_iovlen = 1;
                message.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
                message.msg_hdr.msg_controllen = CONTROL_LEN;
                message
            })
            .collect()
    }
}

fn receive(socket: RawFd, message: &mut libc::mmsghdr) -> io::Result<usize> {
    // SAFETY: the header points to buffers of the lengths that it has.
    let length = unsafe { libc::recvmsg(socket, &raw mut message.msg_hdr, 0) };
    message.msg_len = u32::try_from(length).map_err(|_| io::Error::last_os_error())?;
    Ok(1)
}

/// Waits for the first datagram only.
fn receive_batch(socket: RawFd, messages: &mut [libc::mmsghdr]) -> io::Result<usize> {
    let length = libc::c_uint::try_from(messages.len()).expect("a small number");
    let (headers, flags) = (messages.as_mut_ptr(), libc::MSG_WAITFORONE);
    // SAFETY: there are as many headers as the length, and each points to
    // buffers of the lengths that it has.
    let count = unsafe { libc::recvmmsg(socket, headers, length, flags, ptr::null_mut()) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}
