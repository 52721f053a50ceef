//! What is measured. Subjects take turns within a round, so that whatever
//! else the machine does meets them all alike.

mod flood;
mod idle;
mod paced;
mod saturated;
mod stalls;
mod syscalls;

use std::fs;
use std::io::{self, Write as _};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::arena::Arena;
use crate::machine::Machine;
use crate::outcome::{Figures, Record, Sample};
use crate::plan::{Args, Plan, Topic};
use crate::subject::{Programs, Subject};
use crate::table::{self, Layout};

/// What all scenarios need.
struct Bench {
    arena: Arena,
    programs: Programs,
    plan: Plan,
    record: Record,
    /// Whether something failed that is not the peer.
    ours_failed: bool,
}

/// What [`compare`] compares by, and how.
type Scenario = fn(&mut Bench, u32) -> Result<()>;

const TOPICS: [(Topic, Scenario); 4] = [
    (Topic::Saturated, saturated::round),
    (Topic::Paced, paced::round),
    (Topic::Idle, idle::round),
    (Topic::Stalls, stalls::round),
];

/// `observer-bench compare`
pub fn compare(args: &Args) -> Result<()> {
    let machine = Machine::describe();
    let mut bench = Bench::new(args, Plan::compare(args))?;
    for round in 0..bench.plan.rounds {
        for (topic, measure) in TOPICS {
            if args.has_topic(topic) {
                measure(&mut bench, round)?;
            }
        }
    }
    let layouts = [
        saturated::LAYOUT,
        paced::LAYOUT,
        idle::LAYOUT,
        stalls::LAYOUT,
    ];
    bench.publish(args, &machine, "compare", &layouts)
}

/// `observer-bench flood`
pub fn flood(args: &Args) -> Result<()> {
    let machine = Machine::describe();
    let mut bench = Bench::new(args, Plan::flood(args))?;
    for round in 0..bench.plan.rounds {
        flood::round(&mut bench, round)?;
    }
    bench.publish(args, &machine, "flood", &[flood::LAYOUT])
}

impl Bench {
    fn new(args: &Args, plan: Plan) -> Result<Self> {
        Ok(Self {
            programs: Programs::new(args)?,
            // Before there are threads: they would stay behind.
            arena: Arena::enter()?,
            plan,
            record: Record::default(),
            ours_failed: false,
        })
    }

    /// Measures each subject once in one case.
    fn measure_each(
        &mut self,
        at: At<'_>,
        subjects: impl IntoIterator<Item = Subject>,
        measure: impl Fn(&Self, Subject) -> Result<Figures>,
    ) -> Result<()> {
        let turns = subjects.into_iter().map(|subject| (subject, ()));
        let turns: Vec<_> = turns.collect();
        let name = |subject: Subject, ()| subject.name().to_owned();
        self.take_turns(at, &turns, name, |bench, subject, ()| {
            measure(bench, subject)
        })
    }

    /// Lets each subject have its turn in one case; a later round begins with
    /// another one.
    fn take_turns<T: Copy>(
        &mut self,
        at: At<'_>,
        turns: &[(Subject, T)],
        name: impl Fn(Subject, T) -> String,
        measure: impl Fn(&Self, Subject, T) -> Result<Figures>,
    ) -> Result<()> {
        let At { topic, case, round } = at;
        let first = usize::try_from(round)? % turns.len();
        let (later, sooner) = turns.split_at(first);
        progress(&format!("round {}: {topic}: {case}", round + 1));
        for &(subject, term) in sooner.iter().chain(later) {
            if !self.programs.knows(subject) {
                continue;
            }
            let (case, subject_name) = (case.to_owned(), name(subject, term));
            if let Some(reason) = self.programs.lacks(subject) {
                if round == 0 {
                    let entry = (topic, case, subject_name, reason);
                    self.record.not_run.push(entry);
                }
                continue;
            }
            let figures = match measure(self, subject, term) {
                Ok(figures) => figures,
                Err(error) => {
                    progress(&format!("{subject_name}: {error:#}"));
                    self.record.failed(topic, case, subject_name, round);
                    self.ours_failed |= !subject.is_peer();
                    continue;
                }
            };
            self.record.samples.push(Sample {
                topic,
                case,
                subject: subject_name,
                round,
                figures,
            });
        }
        Ok(())
    }

    /// Writes `NAME.json` with every round, and the tables to `NAME.md` and
    /// stdout.
    fn publish(
        &self,
        args: &Args,
        machine: &Machine,
        name: &str,
        layouts: &[Layout],
    ) -> Result<()> {
        let medians = self.record.medians();
        let rounds = self.plan.rounds;
        let text = format!(
            "{} Medians of {rounds} round{}{}.{}\n{}",
            machine.sentence(),
            if rounds == 1 { "" } else { "s" },
            if args.quick { ", cut short" } else { "" },
            self.programs.notice(),
            table::render(layouts, &medians)
        );
        let json = json!({
            "machine": machine,
            "quick": args.quick,
            "rounds": self.record.samples,
            "medians": medians,
        });
        fs::create_dir_all(&args.out)?;
        fs::write(
            args.out.join(format!("{name}.json")),
            serde_json::to_vec_pretty(&json)?,
        )?;
        fs::write(args.out.join(format!("{name}.md")), &text)?;
        io::stdout().write_all(text.as_bytes())?;
        ensure!(!self.ours_failed, "some measurements failed");
        Ok(())
    }
}

/// Where in the run we are.
#[derive(Clone, Copy)]
struct At<'a> {
    topic: &'static str,
    case: &'a str,
    round: u32,
}

/// For whoever waits.
fn progress(line: &str) {
    drop(writeln!(io::stderr(), "{line}"));
}
