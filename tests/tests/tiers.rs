//! Each tier, and what privilege it takes: the same attacks on each, and what
//! a weaker one cannot see.

use std::process::Command;

use observer_tests::agent::Agent;
use observer_tests::kernel::{self, ATTESTED_IPV4, HELPER_TIER, attested_loopback};
use observer_tests::observer::{Observer, is};
use observer_tests::privilege::{Binary, Privilege};
use observer_tests::{fact, need_kernel};
use serde_json::Value;

/// How an observer is made to use a tier.
struct Tier {
    name: &'static str,
    flags: &'static [&'static str],
    expected: fn(&Attack) -> &'static str,
}

const BTF: Tier = Tier {
    name: "btf",
    flags: &["--tier", "btf"],
    expected: |attack| attack.btf,
};
const HELPER: Tier = Tier {
    name: "helper",
    flags: &["--tier", "helper"],
    expected: |attack| attack.helper,
};
const SCM: Tier = Tier {
    name: "scm",
    flags: &["--attest", "prefer", "--tier", "scm"],
    expected: |attack| attack.scm,
};

/// A sender that does something, and what each tier makes of it.
struct Attack {
    name: &'static str,
    /// Program and arguments, of which `TO` is the observer's address and
    /// `VICTIM` the pid of a process that is not the sender.
    sender: &'static [&'static str],
    route: Route,
    btf: &'static str,
    helper: &'static str,
    scm: &'static str,
}

impl Attack {
    fn is_honest(&self) -> bool {
        self.btf == "beat"
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Route {
    Unix,
    Udp,
}

const SENDER: &str = env!("CARGO_BIN_EXE_sender");
const URING: &str = env!("CARGO_BIN_EXE_uring");
const ATTACKER: &str = env!("CARGO_BIN_EXE_udp_attack");

const ATTACKS: [Attack; 11] = [
    Attack {
        name: "an honest beat",
        sender: &[SENDER, "honest", "TO"],
        route: Route::Unix,
        btf: "beat",
        helper: "beat",
        scm: "beat",
    },
    Attack {
        name: "another's pid in the frame",
        sender: &[SENDER, "claim", "TO", "VICTIM"],
        route: Route::Unix,
        btf: "pid_mismatch",
        helper: "pid_mismatch",
        scm: "pid_mismatch",
    },
    Attack {
        name: "the same, with forged `SCM_CREDENTIALS`",
        sender: &[SENDER, "forge", "TO", "VICTIM", "VICTIM"],
        route: Route::Unix,
        btf: "forged_credentials",
        helper: "forged_credentials",
        scm: "BELIEVED",
    },
    Attack {
        name: "a child on its parent's socket",
        sender: &[SENDER, "child", "TO", "1"],
        route: Route::Unix,
        btf: "pid_mismatch",
        helper: "pid_mismatch",
        scm: "pid_mismatch",
    },
    Attack {
        name: "a sender in a pid namespace below",
        sender: &[SENDER, "foreign-child", "TO", "VICTIM"],
        route: Route::Unix,
        btf: "namespace_conflict, with the inode",
        helper: "namespace_conflict, inode unknown",
        scm: "pid_mismatch",
    },
    Attack {
        name: "a child on its parent's `io_uring`",
        sender: &[URING, "child", "inline", "TO"],
        route: Route::Unix,
        btf: "pid_mismatch",
        helper: "pid_mismatch",
        scm: "pid_mismatch",
    },
    Attack {
        name: "the same, through its SQPOLL thread",
        sender: &[URING, "child", "sqpoll", "TO"],
        route: Route::Unix,
        btf: "sqpoll",
        helper: "BELIEVED",
        scm: "BELIEVED",
    },
    Attack {
        name: "by UDP: an honest beat",
        sender: &[SENDER, "resident", "TO"],
        route: Route::Udp,
        btf: "beat",
        helper: NOT_BY_UDP,
        scm: "beat, network_unverified",
    },
    Attack {
        name: "by UDP: another's pid in the frame",
        sender: &[SENDER, "claim", "TO", "VICTIM"],
        route: Route::Udp,
        btf: "pid_mismatch",
        helper: NOT_BY_UDP,
        scm: "beat, network_unverified",
    },
    Attack {
        name: "by UDP: the same, in a hand-made packet",
        sender: &[ATTACKER, "hand-made", "TO", "VICTIM"],
        route: Route::Udp,
        btf: "pid_mismatch",
        helper: NOT_BY_UDP,
        scm: "beat, network_unverified",
    },
    Attack {
        name: "by UDP: in one send with other datagrams",
        sender: &[ATTACKER, "short-segment", "TO", "VICTIM"],
        route: Route::Udp,
        btf: "corked",
        helper: NOT_BY_UDP,
        scm: "beat, network_unverified",
    },
];

/// An observer of a tier that attests no UDP does not start with it.
const NOT_BY_UDP: &str = "exit code 3";

/// Sockets that are not UDP's, which an old kernel lets nobody look into, are no
/// matter of tiers (`udp_forgeries.rs`).
const HAND_MADE: &str = "by UDP: the same, in a hand-made packet";

fn is_left_out(attack: &Attack) -> bool {
    attack.name == HAND_MADE && !kernel::is_at_least(ATTESTED_IPV4)
}

/// What an observer makes of an attack.
fn outcome(attack: &Attack, observer: &Observer) -> String {
    let to = match attack.route {
        Route::Unix => observer.target(),
        Route::Udp => observer.udp().first().expect("a listener").to_string(),
    };
    let victim = Agent::spawn(Command::new("cat"));
    let (program, arguments) = attack.sender.split_first().expect("a program");
    let arguments = arguments.iter().map(|&argument| match argument {
        "TO" => to.clone(),
        "VICTIM" => victim.pid().to_string(),
        other => other.to_owned(),
    });
    let seen = observer.events().len();
    let mut sender = Agent::start(*program, arguments);
    observer.expect_count(attack.name, seen + 1, |_| true);
    assert!(sender.finish().success(), "{}", attack.name);
    let event = observer.events().swap_remove(seen);
    verdict(&event, attack.is_honest())
}

fn verdict(event: &Value, is_honest: bool) -> String {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    if is(event, "beat") {
        return match text(&event["origin"]).as_str() {
            "kernel_attested" if is_honest => "beat".into(),
            "kernel_attested" => "BELIEVED".into(),
            weaker => format!("beat, {weaker}"),
        };
    }
    if is(event, "namespace_conflict") {
        let inode = match event["observed_ns_inode"] {
            Value::Null => "inode unknown",
            _ => "with the inode",
        };
        return format!("namespace_conflict, {inode}");
    }
    text(&event["cause"])
}

/// Carries out each attack on an observer of a tier, and compares what it
/// reports with what is expected.
fn attack(observer: &Observer, tier: &Tier, routes: &[Route]) {
    for (number, attack) in ATTACKS.iter().enumerate() {
        if !routes.contains(&attack.route) || is_left_out(attack) {
            continue;
        }
        let found = outcome(attack, observer);
        let fact = format!("attack/{}/{number:02} {}", tier.name, attack.name);
        fact::record(&fact, &found);
        assert_eq!(
            found,
            (tier.expected)(attack),
            "tier {}: {}",
            tier.name,
            attack.name
        );
    }
}

fn assert_via(observer: &Observer, via: &str) {
    let log = observer.log();
    let tier = format!("tier {via},");
    assert!(log.iter().any(|line| line.contains(&tier)), "{log:#?}");
}

fn has_helper_tier() -> bool {
    kernel::is_at_least(HELPER_TIER)
}

#[test]
fn each_tier_sees_what_it_can() {
    need_kernel!();
    let binary = Binary::new();
    let udp = ["--udp", attested_loopback()[0]];
    for tier in [BTF, HELPER, SCM] {
        let is_helper = tier.name == HELPER.name;
        let with_udp = [tier.flags, &udp].concat();
        let flags = if is_helper { tier.flags } else { &with_udp };
        let started = binary.start(Privilege::Root, flags);
        if is_helper && !has_helper_tier() {
            let remains = started.err().expect("this kernel lacks a helper");
            assert_eq!(remains.status.code(), Some(3), "{:#?}", remains.log);
            continue;
        }
        let observer = started.unwrap_or_else(|remains| panic!("{:#?}", remains.log));
        assert_via(&observer, tier.name);
        attack(&observer, &tier, &[Route::Unix]);
        if is_helper {
            refuses_udp(&binary, &with_udp);
        } else {
            attack(&observer, &tier, &[Route::Udp]);
        }
    }
}

/// No helper function shows whether a send is corked.
fn refuses_udp(binary: &Binary, flags: &[&str]) {
    let refused = binary.start(Privilege::Root, flags).err();
    let remains = refused.expect("it attests no UDP");
    assert_eq!(remains.status.code(), Some(3), "{:#?}", remains.log);
    let log = remains.log.join("\n");
    assert!(log.contains("only tier btf attests UDP"), "{log}");
    for (number, attack) in ATTACKS.iter().enumerate() {
        if attack.route != Route::Udp {
            continue;
        }
        let fact = format!("attack/{}/{number:02} {}", HELPER.name, attack.name);
        fact::record(&fact, NOT_BY_UDP);
    }
}

/// The strongest tier that some rights allow is used, and sees what it sees
/// under root.
#[test]
fn each_privilege_has_its_tier() {
    need_kernel!();
    let binary = Binary::new();
    let helper = has_helper_tier().then_some(&HELPER);
    for (privilege, tier) in [
        (Privilege::Root, Some(&BTF)),
        (Privilege::BTF, Some(&BTF)),
        (Privilege::HELPER, helper),
        (Privilege::NONE, None),
    ] {
        let fact = format!("privilege/{}", privilege.name());
        match (binary.start(privilege, &[]), tier) {
            (Ok(observer), Some(tier)) => {
                assert_via(&observer, tier.name);
                attack(&observer, tier, &[Route::Unix]);
                fact::record(&fact, tier.name);
            }
            (Err(remains), None) => {
                assert_eq!(remains.status.code(), Some(3), "{:#?}", remains.log);
                let log = remains.log.join("\n");
                assert!(log.contains("CAP_BPF") && log.contains("doctor"), "{log}");
                fact::record(&fact, "exit code 3");
            }
            (Ok(_), None) => panic!("{privilege:?} attests"),
            (Err(remains), Some(_)) => panic!("{privilege:?}: {:#?}", remains.log),
        }
    }
}

/// Less than the operator demands is no start, whatever the mode, and a demand
/// that contradicts another is a mistake.
#[test]
fn no_tier_below_the_weakest_is_used() {
    need_kernel!();
    let binary = Binary::new();
    for (privilege, flags, code) in [
        (Privilege::HELPER, &["--min-tier", "btf"][..], 3),
        (
            Privilege::NONE,
            &["--min-tier", "helper", "--attest", "prefer"],
            3,
        ),
        (
            Privilege::HELPER,
            &["--min-tier", "btf", "--attest", "prefer"],
            3,
        ),
        (
            Privilege::Root,
            &["--min-tier", "btf", "--tier", "helper"],
            2,
        ),
        (
            Privilege::Root,
            &["--min-tier", "helper", "--attest", "off"],
            2,
        ),
    ] {
        let remains = binary.start(privilege, flags).err();
        let remains = remains.unwrap_or_else(|| panic!("{privilege:?} {flags:?} starts"));
        let context = format!("{privilege:?} {flags:?}: {:#?}", remains.log);
        assert_eq!(remains.status.code(), Some(code), "{context}");
    }
    for (privilege, flags, tier) in [
        (Privilege::Root, &["--min-tier", "btf"][..], &BTF),
        (Privilege::BTF, &["--min-tier", "helper"], &BTF),
        (Privilege::HELPER, &["--min-tier", "helper"], &HELPER),
    ] {
        if tier.name == HELPER.name && !has_helper_tier() {
            continue;
        }
        let started = binary.start(privilege, flags);
        let observer = started.unwrap_or_else(|remains| panic!("{:#?}", remains.log));
        assert_via(&observer, tier.name);
    }
}

/// To attach to a cgroup takes one capability more, and no user but root can
/// do without it.
#[test]
fn udp_takes_one_capability_more() {
    const WITH: Privilege = Privilege::Nobody(&["bpf", "perfmon", "net_admin"]);
    need_kernel!();
    let binary = Binary::new();
    let udp = ["--udp", attested_loopback()[0]];
    let observer = binary
        .start(WITH, &udp)
        .unwrap_or_else(|remains| panic!("{:#?}", remains.log));
    attack(&observer, &BTF, &[Route::Udp]);
    fact::record(&format!("privilege/UDP: {}", WITH.name()), BTF.name);
    let remains = binary
        .start(Privilege::BTF, &udp)
        .err()
        .expect("it may not attach");
    assert_eq!(remains.status.code(), Some(3), "{:#?}", remains.log);
    let log = remains.log.join("\n");
    assert!(log.contains("with CAP_NET_ADMIN as well"), "{log}");
    assert!(!log.contains("CAP_BPF"), "{log}");
    fact::record(
        &format!("privilege/UDP: {}", Privilege::BTF.name()),
        "exit code 3",
    );
}

/// Without attestation, and with a line in the log that says so: what
/// varta-watch has.
#[test]
fn who_has_no_capability_can_still_observe_what_is_claimed() {
    need_kernel!();
    let binary = Binary::new();
    let observer = binary
        .start(Privilege::NONE, &["--attest", "prefer"])
        .unwrap_or_else(|remains| panic!("{:#?}", remains.log));
    assert_via(&observer, SCM.name);
    attack(&observer, &SCM, &[Route::Unix]);
    let reasons: Vec<String> = observer
        .log()
        .into_iter()
        .filter(|line| line.contains("attestation degraded"))
        .collect();
    assert_eq!(reasons.len(), 1, "{reasons:?}");
}

/// Where IPv4 cannot be attested the observer does not start on it, and logs
/// what to do.
#[test]
fn an_unattested_listener_needs_the_operators_consent() {
    need_kernel!();
    if kernel::is_at_least(ATTESTED_IPV4) {
        return;
    }
    let binary = Binary::new();
    let run = |flags: &[&str]| binary.start(Privilege::Root, flags);
    for flags in [
        &["--udp", "127.0.0.1:0"][..],
        &["--udp", "127.0.0.1:0", "--udp", "[::1]:0"],
        &["--trust-udp", "127.0.0.1:0", "--udp", "[::1]:0"],
        &["--trust-udp", "127.0.0.1:0"],
    ] {
        let remains = run(flags).err().expect("nobody agreed to less");
        assert_eq!(remains.status.code(), Some(3), "{:#?}", remains.log);
        let log = remains.log.join("\n");
        assert!(log.contains("IPv6"), "{log}");
    }
    for more in [&[][..], &["--udp", "[::1]:0"]] {
        let flags = [&["--udp", "127.0.0.1:0", "--accept-network-beats"], more].concat();
        let observer = run(&flags).unwrap_or_else(|remains| panic!("{:#?}", remains.log));
        let to = observer.udp()[0].to_string();
        let mut agent = Agent::start(SENDER, ["resident", &to]);
        let beat = observer.expect("a beat", |event| is(event, "beat"));
        assert_eq!(beat["origin"], "network_unverified");
        agent.finish_well();
    }
}
