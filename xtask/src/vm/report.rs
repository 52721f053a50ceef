//! What a guest reports: a line of JSON for each step, for each fact
//! that a test found out, and at last the verdict.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// All that one machine reported.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Report {
    pub(super) steps: Vec<Outcome>,
    /// What tests found out, by its name.
    pub(super) facts: BTreeMap<String, String>,
    /// Why it failed; `Ok` if it did not. `None`: it never came to a verdict.
    pub(super) verdict: Option<Result<(), String>>,
}

/// How one step went.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) name: String,
    pub(super) passed: bool,
    /// How long it took.
    pub(super) seconds: f64,
}

impl Report {
    /// # Errors
    /// If a line is none of those.
    pub(super) fn parse(lines: &str) -> Result<Self> {
        let mut report = Self::default();
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            report
                .add(line)
                .with_context(|| format!("the guest reports {line:?}"))?;
        }
        Ok(report)
    }

    /// Whether the machine never reported anything.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Why the machine has not passed; `None`: it has.
    pub(super) fn failure(&self) -> Option<String> {
        let reason = match &self.verdict {
            None => return Some("it ended without a verdict".into()),
            Some(Ok(())) => return None,
            Some(Err(reason)) => reason,
        };
        let failed = self.steps.iter().filter(|step| !step.passed);
        let names: Vec<&str> = failed.map(|step| step.name.as_str()).collect();
        Some(format!("{reason} failed: {}", names.join(", ")))
    }

    /// The steps that took longest, the longest first.
    pub(super) fn slowest(&self, count: usize) -> Vec<&Outcome> {
        let mut steps: Vec<&Outcome> = self.steps.iter().collect();
        steps.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        steps.truncate(count);
        steps
    }

    fn add(&mut self, line: &str) -> Result<()> {
        let line: Value = serde_json::from_str(line)?;
        let text = |name: &str| line.get(name).and_then(Value::as_str).map(str::to_owned);
        if let Some(name) = text("step") {
            self.steps.push(Outcome {
                name,
                passed: text("outcome").as_deref() == Some("passed"),
                seconds: line
                    .get("seconds")
                    .and_then(Value::as_f64)
                    .unwrap_or_default(),
            });
        } else if let Some(verdict) = text("verdict") {
            self.verdict = Some(match verdict.as_str() {
                "passed" => Ok(()),
                _ => Err(text("reason").unwrap_or_default()),
            });
        } else {
            let fact = text("fact").context("not a line of a report")?;
            let value = text("value").context("a fact without a value")?;
            self.facts.insert(fact, value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_steps_come_first() {
        let lines = [("a", 1.0), ("b", 3.0), ("c", 2.0)].map(|(name, seconds)| {
            format!("{{\"step\":\"{name}\",\"outcome\":\"passed\",\"seconds\":{seconds}}}\n")
        });
        let report = Report::parse(&lines.concat()).unwrap();
        let names: Vec<&str> = report
            .slowest(2)
            .iter()
            .map(|step| step.name.as_str())
            .collect();
        assert_eq!(names, ["b", "c"]);
    }

    #[test]
    fn a_report_is_read_as_the_guest_writes_it() {
        let report = Report::parse(
            "{\"fact\":\"tier\",\"value\":\"btf\"}\r\n\
             {\"outcome\":\"FAILED\",\"seconds\":1.5,\"step\":\"udp\"}\r\n\
             {\"reason\":\"1 steps\",\"verdict\":\"FAILED\"}\r\n",
        )
        .unwrap();
        assert_eq!(report.facts.get("tier").map(String::as_str), Some("btf"));
        assert_eq!(report.verdict, Some(Err("1 steps".into())));
        let outcome = Outcome {
            name: "udp".into(),
            passed: false,
            seconds: 1.5,
        };
        assert_eq!(report.steps, [outcome]);
        assert_eq!(report.failure().as_deref(), Some("1 steps failed: udp"));
        assert_eq!(Report::parse("").unwrap().verdict, None);
        assert!(Report::parse("").unwrap().is_empty());
        assert!(!report.is_empty());
        assert!(Report::parse("{}").is_err());
        assert!(Report::parse("hello").is_err());
    }
}
