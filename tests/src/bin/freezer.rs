//! Processes that forge while nobody can read their memory, or their `/proc`
//! entry: `freezer SOCKET FILE UID COUNT HOW`, with FILE an empty file to mount
//! on.
//!
//! With HOW `exec` each sends a forgery and executes a program. A file that is
//! closed for that is of a FUSE server, this process, which sends no response
//! (`fuse_flush`, `fs/fuse/file.c`), and `begin_new_exec` (`fs/exec.c`) keeps
//! the process's `exec_update_lock` meanwhile.
//!
//! With HOW `memory` each maps a page that a FUSE server, this process, is to
//! deliver, and reads it in one thread. The server fails the first attempt, for which the kernel
//! drops the `mmap_lock`, and leaves the second without one, for which it keeps
//! it (`filemap_fault`, `mm/filemap.c`: `maybe_unlock_mmap_for_io` unlocks at
//! the first try only). Another thread waits for the lock to write, and so
//! whoever wants to read waits, too. Then the first thread sends a forgery in
//! the name of process 1000 + its number.
//!
//! Opening `/dev/fuse` and mounting are what `fusermount3` does for any user;
//! all else is done as UID, in a mount namespace of its own. Prints the pid of
//! each forger that has sent and is frozen, then `frozen`; lets go and prints
//! `released` when its stdin closes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::ptr;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, alarm, close, execv};
use observer_testing::frame;
use observer_tests::process::{arguments, become_user, number, start_child};
use observer_tests::socket::unix;

/// No test needs it for longer, and nobody on this host can list processes
/// meanwhile: then SIGALRM ends it, and with the server all that waits for it.
const SECONDS: u32 = 20;
const PAGE: usize = 4096;

/// Requests of the kernel's (`include/uapi/linux/fuse.h`).
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
/// Those that get no response.
const FORGET: [u32; 2] = [2, 42];

fn main() {
    let [socket, file, uid, count, how] = arguments("freezer SOCKET FILE UID COUNT HOW");
    let body = match how.as_str() {
        "memory" => freeze,
        "exec" => execute,
        other => panic!("unknown way {other}"),
    };
    let uid: u32 = number(&uid);
    let count: usize = number(&count);
    let socket = unix(&socket);
    alarm::set(SECONDS);
    let fuse = mount_fuse(&file, uid);
    become_user(uid);
    let forgers = (0..count).map(|page| Forger::start(page, &socket, &file, &fuse, body));
    let forgers: Vec<Forger> = forgers.collect();
    let mut server = Server {
        fuse,
        size: count * PAGE,
        forgers,
        flushes: 0,
    };
    server.serve();
    for forger in &server.forgers {
        kill(forger.pid, Signal::SIGKILL).expect("it is our child");
    }
    // Ends what still waits for a response, so that they can end.
    drop(server.fuse);
    for forger in &server.forgers {
        waitpid(forger.pid, None).expect("it is our child");
    }
    println!("released");
}

fn mount_fuse(file: &str, uid: u32) -> File {
    unshare(CloneFlags::CLONE_NEWNS).expect("root may");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("root may");
    let fuse = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_CLOEXEC)
        .open("/dev/fuse")
        .expect("FUSE");
    let options = format!(
        "fd={},rootmode=100444,user_id={uid},group_id={uid}",
        fuse.as_raw_fd()
    );
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some("freezer"),
        file,
        Some("fuse"),
        flags,
        Some(options.as_str()),
    )
    .expect("mounts");
    fuse
}

/// One of the processes, as the server sees it.
struct Forger {
    pid: Pid,
    /// How often its page was requested.
    reads: u32,
    /// A byte when the lock is held, and one when it is wanted for writing too.
    go: PipeWriter,
    /// Ends when it has sent.
    sent: PipeReader,
}

impl Forger {
    fn start(page: usize, socket: &UnixDatagram, file: &str, fuse: &File, body: Body) -> Self {
        let (steps, go) = io::pipe().expect("a pipe");
        let (sent, done) = io::pipe().expect("a pipe");
        let pid = start_child(|| {
            // The other ends are the parent's alone.
            for end in [go.as_raw_fd(), sent.as_raw_fd()] {
                close(end).expect("it is open");
            }
            // Else what waits for a response would not end with the server.
            close(fuse.as_raw_fd()).expect("it is open");
            body(page, socket, file, steps, done);
        });
        Self {
            pid,
            reads: 0,
            go,
            sent,
        }
    }

    /// The lock is held: makes the forger wait for it, and then forge.
    fn forge(&mut self) {
        self.go.write_all(b"w").expect("it reads");
        while !self.has_waiter() {
            thread::sleep(Duration::from_millis(1));
        }
        self.go.write_all(b"s").expect("it reads");
        let end = self.sent.read(&mut [0]).expect("a pipe");
        assert_eq!(end, 0, "it writes nothing");
        println!("{}", self.pid);
    }

    /// Whether one of its threads is in an uninterruptible wait, as for the
    /// lock.
    fn has_waiter(&self) -> bool {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).expect("it runs");
        tasks.flatten().any(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('D'))
        })
    }
}

/// A forger itself. Never returns once it has sent.
type Body = fn(usize, &UnixDatagram, &str, PipeReader, PipeWriter);

/// One that executes a program, and never comes to it.
fn execute(page: usize, socket: &UnixDatagram, file: &str, _: PipeReader, _: PipeWriter) {
    prctl::set_pdeathsig(Signal::SIGKILL).expect("it may");
    let _closed_on_the_way = File::open(file).expect("it is mounted");
    let claimed = 1000 + u32::try_from(page).expect("small");
    socket.send(&frame(claimed, 1).encode()).expect("sends");
    let failed = execv(c"/bin/true", &[c"true"]);
    panic!("{failed:?}");
}

/// One whose memory is locked.
fn freeze(page: usize, socket: &UnixDatagram, file: &str, mut steps: PipeReader, done: PipeWriter) {
    prctl::set_pdeathsig(Signal::SIGKILL).expect("it may");
    let file = File::open(file).expect("it is mounted");
    // The kernel asks for the size only now.
    let size = file.metadata().expect("it is open").len();
    let length = NonZeroUsize::new(PAGE).expect("some");
    let offset = i64::try_from(page * PAGE).expect("small");
    assert!(size > offset.cast_unsigned());
    let (protection, flags) = (ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE);
    // SAFETY: a new mapping, which nobody else knows of.
    let mapped = unsafe { mmap(None, length, protection, flags, &file, offset) };
    let mapped = mapped.expect("maps");
    // SAFETY: advice about that mapping: no page is to be read ahead.
    unsafe { madvise(mapped, PAGE, MmapAdvise::MADV_RANDOM) }.expect("advises");
    let bytes = frame(1000 + u32::try_from(page).expect("small"), 1).encode();
    // Made while a thread can still get its stack.
    let (mut waiting, mut wait) = io::pipe().expect("a pipe");
    thread::spawn(move || {
        waiting.read_exact(&mut [0]).expect("a pipe");
        // SAFETY: a new mapping. It never comes to be: the lock is held.
        unsafe { mmap_anonymous(None, length, protection, flags) }.is_ok()
    });
    let at = mapped.as_ptr() as usize;
    // SAFETY: the mapping stays for as long as the process lives. Another
    // process provides its content, so it is read as volatile.
    thread::spawn(move || unsafe { ptr::with_exposed_provenance::<u8>(at).read_volatile() });
    steps.read_exact(&mut [0]).expect("the server is there");
    wait.write_all(b"w").expect("it reads");
    steps.read_exact(&mut [0]).expect("the server is there");
    socket.send(&bytes).expect("sends");
    drop(done);
    loop {
        thread::park();
    }
}

/// The FUSE server: one file, which is the root.
struct Server {
    fuse: File,
    size: usize,
    forgers: Vec<Forger>,
    flushes: usize,
}

impl Server {
    /// Responds until stdin closes.
    fn serve(&mut self) {
        let mut buffer = vec![0; 1 << 17];
        let stdin = io::stdin();
        loop {
            let mut ready = [
                PollFd::new(self.fuse.as_fd(), PollFlags::POLLIN),
                PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            ];
            poll(&mut ready, PollTimeout::NONE).expect("polls");
            let [fuse, stdin] = ready.map(|one| one.any().unwrap_or(false));
            if stdin {
                return;
            }
            if fuse {
                self.respond(&mut buffer);
            }
        }
    }

    fn respond(&mut self, buffer: &mut [u8]) {
        let length = match self.fuse.read(buffer) {
            Ok(length) => length,
            // The request was taken back.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return,
            Err(error) => panic!("{error}"),
        };
        let request = &buffer[..length];
        let (operation, id) = (word(request, 4), double_word(request, 8));
        match operation {
            INIT => self.reply(id, &init()),
            GETATTR => self.reply(id, &attributes(self.size)),
            OPEN => self.reply(id, &[0; 16]),
            READ => self.read(id, double_word(request, 48)),
            FLUSH => self.note_flush(word(request, 32)),
            operation if FORGET.contains(&operation) => {}
            _ => self.fail(id, Errno::ENOSYS),
        }
    }

    /// Fails the first attempt at a page and sends no response to the second.
    fn read(&mut self, id: u64, offset: u64) {
        let page = usize::try_from(offset).expect("small") / PAGE;
        let forger = &mut self.forgers[page];
        forger.reads += 1;
        if forger.reads == 1 {
            return self.fail(id, Errno::EIO);
        }
        forger.forge();
        if self.forgers.iter().all(|forger| forger.reads > 1) {
            println!("frozen");
        }
    }

    /// Sends no response.
    fn note_flush(&mut self, pid: u32) {
        println!("{pid}");
        self.flushes += 1;
        if self.flushes == self.forgers.len() {
            println!("frozen");
        }
    }

    fn reply(&mut self, id: u64, body: &[u8]) {
        self.write(id, 0, body);
    }

    fn fail(&mut self, id: u64, errno: Errno) {
        self.write(id, -(errno as i32), &[]);
    }

    /// `fuse_out_header` and what follows it.
    fn write(&mut self, id: u64, error: i32, body: &[u8]) {
        let length = u32::try_from(16 + body.len()).expect("small");
        let head = [
            &length.to_ne_bytes()[..],
            &error.to_ne_bytes(),
            &id.to_ne_bytes(),
        ];
        let response = [&head.concat(), body].concat();
        let written = self.fuse.write(&response).expect("the kernel waits");
        assert_eq!(written, response.len());
    }
}

/// `fuse_init_out`: protocol 7.31, and pages one at a time.
fn init() -> Vec<u8> {
    let mut body = vec![0; 64];
    put(&mut body, 0, &7_u32.to_ne_bytes());
    put(&mut body, 4, &31_u32.to_ne_bytes());
    put(&mut body, 20, &4096_u32.to_ne_bytes());
    body
}

/// `fuse_attr_out`: a file that all may read, valid for a while.
fn attributes(size: usize) -> Vec<u8> {
    let mut body = vec![0; 104];
    put(&mut body, 0, &60_u64.to_ne_bytes());
    put(&mut body, 16, &1_u64.to_ne_bytes());
    put(&mut body, 24, &(size as u64).to_ne_bytes());
    put(&mut body, 76, &0o100_444_u32.to_ne_bytes());
    put(&mut body, 80, &1_u32.to_ne_bytes());
    body
}

fn put(body: &mut [u8], at: usize, bytes: &[u8]) {
    body[at..at + bytes.len()].copy_from_slice(bytes);
}

fn word(request: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(request[at..at + 4].try_into().expect("four"))
}

fn double_word(request: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(request[at..at + 8].try_into().expect("eight"))
}
