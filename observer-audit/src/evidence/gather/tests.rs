//! Which senders are looked up, in what order, and what is waited for. That a
//! process really holds a reader up is shown in `tests/tests/evidence.rs`.

use std::sync::Weak;

use super::*;
use observer_events::event::{TaskKind, Via};

/// A process that no kernel has, of a user.
fn sender(pid: u32, uid: u32) -> Attestation {
    Attestation {
        pid: Some(1 << 30 | pid),
        uid: Some(uid),
        start_ns: Some(1),
        task_kind: TaskKind::Thread,
        ..Attestation::unknown(Via::Btf)
    }
}

/// A lookup of a process that was found.
fn looked_up(id: u64, sender: Attestation) -> Lookup {
    Lookup {
        id,
        line: id,
        sender,
        time: Timestamp::now(),
        deadline: Instant::now().checked_add(LIMIT).unwrap(),
        stage: Stage::Looked,
        found: Found::default(),
    }
}

fn reads(lookups: &mut Lookups) -> Vec<u64> {
    let tasks = std::iter::from_fn(|| lookups.take_task());
    let read = tasks.filter_map(|task| match task {
        Task::ReadCommand(id, ..) => Some(id),
        Task::LookUp(..) | Task::FindCgroup(_) => None,
    });
    read.collect()
}

fn gathering() -> Gathering {
    Gathering::new(Waker::new(Weak::new()), None)
}

#[test]
fn one_that_has_ended_is_reported_as_such_and_helpers_end_with_the_trail() {
    let gathering = gathering();
    let (time, now) = (Timestamp::now(), Instant::now());
    for line in 0..20 {
        assert!(gathering.look_up(line, time, &sender(7, 1000), now));
    }
    let found = gathering.finish(Duration::from_secs(20));
    assert_eq!(found.len(), 20);
    for evidence in &found {
        assert!(!evidence.is_overdue, "{evidence:?}");
        let text = format!("{:?}", evidence.process);
        assert!(text.contains("the process has ended"), "{text}");
    }
    assert!(gathering.next_due().is_none());
    assert!(gathering.pool.lock().helpers <= MAX_HELPERS);
    let pool = Arc::downgrade(&gathering.pool);
    drop(gathering);
    let end = Instant::now() + Duration::from_secs(20);
    while Weak::strong_count(&pool) > 0 {
        assert!(Instant::now() < end, "a helper goes on");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_sender_that_cannot_be_seen_is_not_looked_up() {
    let gathering = gathering();
    let unseen = Attestation {
        pid: None,
        ..sender(1, 0)
    };
    assert!(gathering.look_up(1, Timestamp::now(), &unseen, Instant::now()));
    assert!(gathering.next_due().is_none());
}

#[test]
fn a_process_holds_up_one_reader_and_a_user_four() {
    let mut lookups = Lookups::default();
    // Three claims of one process, six processes of its user, thirty others.
    let one = (0..3).map(|id| looked_up(id, sender(1, 1000)));
    let user = (3..9).map(|id| looked_up(id, sender(10 + u32::try_from(id).unwrap(), 1000)));
    let others = (9..39).map(|id| {
        let number = u32::try_from(id).unwrap();
        looked_up(id, sender(100 + number, 2000 + number))
    });
    lookups.open = one.chain(user).chain(others).collect();
    let read = reads(&mut lookups);
    assert_eq!(read[..4], [0, 3, 4, 5]);
    assert_eq!(read[4..], [9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
    assert_eq!(read.len(), MAX_HELD_UP);
    assert!(!lookups.has_task());
    // What comes meanwhile is looked up all the same.
    let new = Lookup {
        stage: Stage::New,
        ..looked_up(99, sender(1, 1000))
    };
    lookups.open.push_back(new);
    assert!(matches!(lookups.take_task(), Some(Task::LookUp(99, _))));
    // One of the user's returns: the next of it is let in.
    lookups.reading.end(4);
    assert_eq!(reads(&mut lookups), [6]);
}

/// Nor do processes that hold up who looks them up.
#[test]
fn a_user_holds_up_four_that_look() {
    let mut lookups = Lookups::default();
    let of = |ids: std::ops::Range<u32>, uid| {
        ids.map(move |id| Lookup {
            stage: Stage::New,
            ..looked_up(id.into(), sender(id, uid))
        })
    };
    lookups.open = of(0..20, 1000).chain(of(20..22, 2000)).collect();
    let mut looked = Vec::new();
    while let Some(Task::LookUp(id, _)) = lookups.take_task() {
        looked.push(id);
    }
    assert_eq!(looked, [0, 1, 2, 3, 20, 21]);
    assert!(!lookups.has_task());
    // Their cgroups are found all the same.
    lookups.cgroups.push_back(7);
    assert!(matches!(lookups.take_task(), Some(Task::FindCgroup(7))));
    lookups.looking.end(2);
    assert!(matches!(lookups.take_task(), Some(Task::LookUp(4, _))));
}

#[test]
fn all_are_looked_up_before_any_command_line_is_read() {
    let mut lookups = Lookups {
        open: (0..4_u32)
            .map(|id| looked_up(id.into(), sender(id, 1)))
            .collect(),
        ..Lookups::default()
    };
    for at in [1, 3] {
        lookups.open[at].stage = Stage::New;
    }
    lookups.cgroups.push_back(5);
    assert!(matches!(lookups.take_task(), Some(Task::LookUp(1, _))));
    assert!(matches!(lookups.take_task(), Some(Task::LookUp(3, _))));
    assert!(matches!(lookups.take_task(), Some(Task::FindCgroup(5))));
    assert!(matches!(
        lookups.take_task(),
        Some(Task::ReadCommand(0, ..))
    ));
}

#[test]
fn what_is_overdue_is_reported_with_what_there_is() {
    let mut lookups = Lookups::default();
    let stages = [Stage::New, Stage::Looked, Stage::Reading, Stage::Done];
    let requests = stages.into_iter().zip(0..).map(|(stage, id)| Lookup {
        stage,
        found: Found {
            process: Process::look_up(&sender(1, 1), BootClock::own()),
            ..Found::default()
        },
        ..looked_up(id, sender(1, 1))
    });
    lookups.open = requests.collect();
    let done = lookups.take_evidence(|_| false);
    assert_eq!(done.len(), 1);
    assert!(!done[0].is_overdue);
    let overdue = lookups.take_evidence(|_| true);
    let lines: Vec<_> = overdue.iter().map(|evidence| evidence.line).collect();
    assert_eq!(lines, [0, 1, 2]);
    assert!(overdue.iter().all(|evidence| evidence.is_overdue));
    assert!(lookups.open.is_empty());
}

/// A helper that comes back late finds nobody who waits.
#[test]
fn what_comes_late_is_for_nobody() {
    let gathering = gathering();
    let pool = &gathering.pool;
    {
        let mut lookups = pool.lock();
        lookups.open.push_back(looked_up(1, sender(1, 1)));
        assert_eq!(reads(&mut lookups), [1]);
    }
    let overdue = gathering.finish(Duration::ZERO);
    assert!(overdue[0].is_overdue);
    let has_room = |lookups: &Lookups| lookups.reading.has_room(&sender(1, 1));
    assert!(!has_room(&pool.lock()), "it is still held up");
    let lookups = pool.set_found(1, Found::default(), true);
    assert!(has_room(&lookups) && lookups.open.is_empty());
}
