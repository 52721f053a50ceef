//! The tables of `docs/kernels.md`, from what the machines reported.

use std::collections::BTreeMap;

use super::report::Report;

/// A machine and what it reported.
pub(super) struct Column<'a> {
    /// Series of its kernel.
    pub(super) kernel: &'a str,
    pub(super) lockdown: &'a str,
    pub(super) report: &'a Report,
}

/// Columns of the table of kernels: heading, and the fact of each machine
/// (`tests/tests/tiers.rs`).
const PRIVILEGES: [(&str, &str); 5] = [
    ("root", "privilege/root"),
    (
        "`CAP_BPF`, `CAP_PERFMON`",
        "privilege/nobody, CAP_BPF, CAP_PERFMON",
    ),
    (
        "with `CAP_NET_ADMIN`, UDP",
        "privilege/UDP: nobody, CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN",
    ),
    ("`CAP_BPF`", "privilege/nobody, CAP_BPF"),
    ("none", "privilege/nobody"),
];

const TIERS: [&str; 3] = ["btf", "helper", "scm"];

/// Which tier each kernel allows to whom.
pub(super) fn kernels(columns: &[Column<'_>]) -> Vec<String> {
    let headings = PRIVILEGES.iter().map(|(heading, _)| (*heading).to_owned());
    let mut lines = heading(
        ["kernel".into(), "lockdown".into()]
            .into_iter()
            .chain(headings),
    );
    for Column {
        kernel,
        lockdown,
        report,
    } in columns
    {
        let facts = PRIVILEGES.iter().map(|(_, fact)| {
            let fact = report.facts.get(*fact);
            fact.map_or_else(|| "?".to_owned(), Clone::clone)
        });
        let first = [(*kernel).to_owned(), (*lockdown).to_owned()];
        lines.push(row(first.into_iter().chain(facts)));
    }
    lines
}

/// What each tier makes of each attack. All machines agree, or the table names
/// those that do not.
pub(super) fn attacks(columns: &[Column<'_>]) -> Vec<String> {
    let mut attacks: BTreeMap<&str, BTreeMap<&str, Vec<Found<'_>>>> = BTreeMap::new();
    for column in columns {
        for (fact, value) in &column.report.facts {
            let mut parts = fact.splitn(3, '/');
            if let (Some("attack"), Some(tier), Some(attack)) =
                (parts.next(), parts.next(), parts.next())
            {
                let found = Found {
                    value,
                    kernel: column.kernel,
                };
                let tiers = attacks.entry(attack).or_default();
                tiers.entry(tier).or_default().push(found);
            }
        }
    }
    let headings = TIERS.map(|tier| format!("tier {tier}"));
    let mut lines = heading(["attack".to_owned()].into_iter().chain(headings));
    for (attack, tiers) in attacks {
        let found = TIERS.map(|tier| agreed(tiers.get(tier).map_or(&[], Vec::as_slice)));
        // The numbers keep the order of the tests.
        let name = attack.split_once(' ').map_or(attack, |(_, name)| name);
        lines.push(row([name.to_owned()].into_iter().chain(found)));
    }
    lines
}

/// How near the programs are to the verifier's limits, by kernel.
pub(super) fn programs(columns: &[Column<'_>]) -> Vec<String> {
    let mut lines = heading(["kernel", "program", "as the kernel reports it"].map(String::from));
    let mut rows = Vec::new();
    for Column { kernel, report, .. } in columns {
        for (fact, value) in &report.facts {
            let Some(program) = fact.strip_prefix("verifier/") else {
                continue;
            };
            let line = row([*kernel, program, value].map(String::from));
            // The same in each state of lockdown.
            if !rows.contains(&line) {
                rows.push(line);
            }
        }
    }
    lines.append(&mut rows);
    lines
}

/// What one machine reported.
struct Found<'a> {
    value: &'a str,
    kernel: &'a str,
}

fn agreed(found: &[Found<'_>]) -> String {
    let Some(first) = found.first() else {
        return "?".into();
    };
    if found.iter().all(|other| other.value == first.value) {
        return first.value.to_owned();
    }
    let each = found
        .iter()
        .map(|Found { value, kernel }| format!("{value} on {kernel}"));
    each.collect::<Vec<_>>().join(", ")
}

fn heading(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let names: Vec<String> = names.into_iter().collect();
    let rule = vec!["---".to_owned(); names.len()];
    vec![row(names), row(rule).replace(' ', "")]
}

fn row(cells: impl IntoIterator<Item = String>) -> String {
    let cells: Vec<String> = cells.into_iter().collect();
    format!("| {} |", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(facts: &[(&str, &str)]) -> Report {
        let facts = facts
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        Report {
            facts: facts.collect(),
            ..Report::default()
        }
    }

    #[test]
    fn tables_say_who_disagrees() {
        let old = report(&[
            ("attack/btf/1 a forgery", "refused"),
            ("privilege/root", "btf"),
        ]);
        let new = report(&[("attack/btf/1 a forgery", "BELIEVED"), ("verifier/p", "9")]);
        let column = |kernel, report| Column {
            kernel,
            lockdown: "none",
            report,
        };
        let columns = [
            column("6.1", &old),
            column("6.12", &new),
            column("6.12", &new),
        ];
        assert_eq!(
            attacks(&columns)[2..],
            ["| a forgery | refused on 6.1, BELIEVED on 6.12, BELIEVED on 6.12 | ? | ? |"]
        );
        assert_eq!(
            attacks(&columns[1..])[2..],
            ["| a forgery | BELIEVED | ? | ? |"]
        );
        assert_eq!(kernels(&columns)[2], "| 6.1 | none | btf | ? | ? | ? | ? |");
        assert_eq!(programs(&columns)[2..], ["| 6.12 | p | 9 |"]);
        assert_eq!(programs(&columns)[1], "|---|---|---|");
    }
}
