//! How near the programs are to the limits of the kernel's verifier.

use std::collections::BTreeMap;
use std::io;

use aya::programs::ProgramInfo;
use observer_tests::kernel::{self, ATTESTED_IPV4, HELPER_TIER, attested_loopback};
use observer_tests::observer::Observer;
use observer_tests::privilege::{Binary, Privilege};
use observer_tests::{fact, need_kernel};

/// Instructions that the verifier looks at, at most
/// (`BPF_COMPLEXITY_LIMIT_INSNS`, `include/linux/bpf.h`).
const MOST_INSTRUCTIONS: u32 = 1_000_000;

/// Stack of a program in bytes (`MAX_BPF_STACK`, `include/linux/filter.h`).
const MOST_STACK: u32 = 512;

/// What the kernel reports of a loaded program.
#[derive(Debug)]
struct Size {
    /// Instructions that the verifier looked at, each as often as it did.
    instructions: u32,
    /// Bytes of stack.
    stack: u32,
}

fn sizes(observer: &Observer) -> BTreeMap<String, Size> {
    let programs = kernel::programs_of(observer.pid());
    let size = |program: &ProgramInfo| {
        let name = program.name_as_str().expect("it has a name").to_owned();
        let fd = program.fd().expect("root may have it");
        let code = machine_code(&fd).expect("root may read it");
        let instructions = program.verified_instruction_count();
        let size = Size {
            instructions: instructions.expect("it is counted"),
            stack: stack(&code),
        };
        (name, size)
    };
    programs.iter().map(size).collect()
}

/// The stack that the kernel's compiler makes room for at the beginning of a
/// program: `sub rsp, IMM32` (`emit_prologue`, `arch/x86/net/bpf_jit_comp.c`,
/// which rounds the verifier's `stack_depth` up to 8).
fn stack(code: &[u8]) -> u32 {
    const PROLOGUE: usize = 64;
    const SUB_RSP: [u8; 3] = [0x48, 0x81, 0xec];
    let prologue = &code[..PROLOGUE.min(code.len())];
    let found = prologue
        .windows(7)
        .find(|window| window.starts_with(&SUB_RSP));
    found.map_or(0, |window| {
        u32::from_le_bytes(window[3..].try_into().expect("four bytes"))
    })
}

/// The beginning of `struct bpf_prog_info` (`include/uapi/linux/bpf.h`).
#[derive(Default)]
#[repr(C)]
struct Information {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    compiled_len: u32,
    translated_len: u32,
    compiled: u64,
    translated: u64,
}

/// What the system call `bpf` takes for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct Request {
    fd: i32,
    length: u32,
    info: u64,
}

/// A program as the processor runs it.
fn machine_code(program: &aya::programs::ProgramFd) -> io::Result<Vec<u8>> {
    let length = information(program, &mut Information::default())?;
    let mut code = vec![0_u8; length as usize];
    let mut info = Information {
        compiled_len: length,
        compiled: code.as_mut_ptr() as u64,
        ..Information::default()
    };
    information(program, &mut info)?;
    Ok(code)
}

/// Reads it from the kernel; returns how many bytes of machine code there are.
fn information(program: &aya::programs::ProgramFd, info: &mut Information) -> io::Result<u32> {
    use std::os::fd::{AsFd as _, AsRawFd as _};
    const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
    let request = Request {
        fd: program.as_fd().as_raw_fd(),
        length: u32::try_from(size_of::<Information>()).expect("small"),
        info: (&raw mut *info) as u64,
    };
    // SAFETY: the request outlives the call, and so do the information that
    // it points to and the code that this points to, each of the length that
    // is given.
    let status = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            OBJ_GET_INFO_BY_FD,
            &raw const request,
            size_of::<Request>(),
        )
    };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(info.compiled_len)
}

/// Programs in all that flags make of them: what is off is not looked at by the
/// verifier. Those of Unix sockets, of each tier.
const UNIX: [&[&str]; 2] = [
    &[],
    &[
        "--ingest",
        "ring",
        "--refuse",
        "kernel",
        "--namespaces",
        "translate",
    ],
];

/// And those of UDP, on addresses that this kernel attests.
fn of_udp() -> Vec<Vec<&'static str>> {
    let one = attested_loopback()[0];
    let any = if kernel::is_at_least(ATTESTED_IPV4) {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    vec![
        vec!["--udp", one],
        ["--udp", one].repeat(8),
        vec!["--udp", one, "--udp-tokens"],
        vec!["--trust-udp", any],
        vec!["--trust-udp", any, "--udp", one, "--udp-tokens"],
    ]
}

/// Half of the instructions are left, and a quarter of the stack.
#[test]
fn every_program_is_far_from_the_limits() {
    need_kernel!();
    let binary = Binary::new();
    let mut all: BTreeMap<String, Size> = BTreeMap::new();
    for tier in ["btf", "helper"] {
        if tier == "helper" && !kernel::is_at_least(HELPER_TIER) {
            continue;
        }
        // Tier helper attests no UDP.
        let udp = (tier == "btf").then(of_udp).into_iter().flatten();
        for configuration in UNIX.map(<[_]>::to_vec).into_iter().chain(udp) {
            let flags = [&["--tier", tier], &configuration[..]].concat();
            let observer = binary.start(Privilege::Root, &flags);
            let observer = observer.unwrap_or_else(|remains| panic!("{:#?}", remains.log));
            for (
                name,
                Size {
                    instructions,
                    stack,
                },
            ) in sizes(&observer)
            {
                println!("{flags:?}: {name}: {instructions} instructions, {stack} bytes of stack");
                let most = all.entry(name).or_insert(Size {
                    instructions: 0,
                    stack: 0,
                });
                most.instructions = most.instructions.max(instructions);
                most.stack = most.stack.max(stack);
            }
        }
    }
    let names: Vec<&str> = all.keys().map(String::as_str).collect();
    let udp_btf = if kernel::is_at_least(ATTESTED_IPV4) {
        "udp_btf"
    } else {
        "udp_btf_v6"
    };
    let helper = ["unix_helper", "unix_helper_run"];
    let helper = kernel::is_at_least(HELPER_TIER).then_some(helper);
    let filters = ["udp_by_device", "udp_by_lo", "udp_by_others", "udp_by_wire"];
    let expected: Vec<&str> = [udp_btf]
        .into_iter()
        .chain(filters)
        .chain(["unix_btf"])
        .chain(helper.into_iter().flatten())
        .collect();
    assert_eq!(names, expected);
    for (
        name,
        Size {
            instructions,
            stack,
        },
    ) in &all
    {
        fact::record(
            &format!("verifier/{name}"),
            &format!("{instructions} instructions, {stack} bytes of stack"),
        );
        assert!(*instructions < MOST_INSTRUCTIONS / 2, "{name}");
        assert!(*stack <= MOST_STACK / 4 * 3, "{name}");
    }
    assert!(all["unix_btf"].instructions > 0 && all[udp_btf].stack > 0);
}
