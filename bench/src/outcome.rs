//! Figures, round by round, and their medians.

use std::collections::BTreeMap;

use serde::Serialize;

/// Figures of one measurement, by name.
pub type Figures = BTreeMap<&'static str, f64>;

/// What is compared with what in the same case: a figure, the subject that it
/// is compared with, and the name of the ratio.
const RATIOS: [(&str, &str, &str); 5] = [
    ("beats_per_s", FLOOR, "beats_per_s_ratio"),
    ("cpu_ns_per_beat", FLOOR, "cpu_ns_per_beat_ratio"),
    ("send_cpu_ns", FLOOR, "send_cpu_ns_ratio"),
    ("cpu_ns_per_beat", PEER, "cpu_ns_per_beat_peer_ratio"),
    ("p50_us", LATENCY_FLOOR, "p50_us_ratio"),
];

const FLOOR: &str = "floor: recvmsg";
const LATENCY_FLOOR: &str = "floor: recvmsg, write";
const PEER: &str = "varta-watch";

/// One round of one subject in one case.
#[derive(Debug, Serialize)]
pub struct Sample {
    pub topic: &'static str,
    pub case: String,
    pub subject: String,
    pub round: u32,
    pub figures: Figures,
}

/// All that was measured, and what was not.
#[derive(Debug, Default)]
pub struct Record {
    pub samples: Vec<Sample>,
    /// Topic, case, subject, and why.
    pub not_run: Vec<(&'static str, String, String, String)>,
}

/// The median of each figure.
#[derive(Debug, Serialize)]
pub struct Median {
    pub topic: &'static str,
    pub case: String,
    pub subject: String,
    pub figures: Figures,
    /// Why there are no figures.
    pub not_run: Option<String>,
}

impl Record {
    /// Keeps in mind that there are no figures of a round.
    pub fn failed(&mut self, topic: &'static str, case: String, subject: String, round: u32) {
        let reason = format!("failed in round {}", round + 1);
        self.not_run.push((topic, case, subject, reason));
    }

    /// In the order in which things were first measured.
    pub fn medians(&self) -> Vec<Median> {
        let mut medians: Vec<Median> = Vec::new();
        for sample in &self.samples {
            let Sample {
                topic,
                case,
                subject,
                ..
            } = sample;
            if find(&medians, topic, case, subject).is_none() {
                medians.push(Median {
                    topic,
                    case: case.clone(),
                    subject: subject.clone(),
                    figures: self.median(topic, case, subject),
                    not_run: None,
                });
            }
        }
        for (topic, case, subject, reason) in &self.not_run {
            medians.push(Median {
                topic,
                case: case.clone(),
                subject: subject.clone(),
                figures: Figures::new(),
                not_run: Some(reason.clone()),
            });
        }
        add_ratios(&mut medians);
        medians
    }

    fn median(&self, topic: &str, case: &str, subject: &str) -> Figures {
        let mut values: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
        for sample in &self.samples {
            if sample.topic == topic && sample.case == case && sample.subject == subject {
                for (name, value) in &sample.figures {
                    values.entry(name).or_default().push(*value);
                }
            }
        }
        let middle = |(name, values): (&'static str, Vec<f64>)| (name, of_rounds(name, values));
        values.into_iter().map(middle).collect()
    }
}

/// The median; of what is a maximum already, the maximum.
fn of_rounds(name: &str, mut values: Vec<f64>) -> f64 {
    if name.starts_with("max_") {
        return values.into_iter().fold(f64::MIN, f64::max);
    }
    values.sort_by(f64::total_cmp);
    let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    f64::midpoint(low, high)
}

fn add_ratios(medians: &mut [Median]) {
    for (figure, reference, ratio) in RATIOS {
        let references: Vec<(&str, String, f64)> = medians
            .iter()
            .filter(|median| median.subject == reference)
            .filter_map(|median| {
                let value = *median.figures.get(figure)?;
                Some((median.topic, median.case.clone(), value))
            })
            .collect();
        for median in &mut *medians {
            let of_case = references
                .iter()
                .find(|(topic, case, _)| *topic == median.topic && *case == median.case);
            if let (Some((_, _, reference)), Some(value)) = (of_case, median.figures.get(figure)) {
                let value = value / reference;
                median.figures.insert(ratio, value);
            }
        }
    }
}

fn find<'a>(medians: &'a [Median], topic: &str, case: &str, subject: &str) -> Option<&'a Median> {
    medians
        .iter()
        .find(|median| median.topic == topic && median.case == case && median.subject == subject)
}

/// Value at a part of a sorted list, by nearest rank.
pub fn percentile(sorted: &[f64], part: f64) -> Option<f64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank in the list"
    )]
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
pub fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_rounds() {
        assert!((of_rounds("x", vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((of_rounds("x", vec![4.0, 1.0]) - 2.5).abs() < f64::EPSILON);
        assert!((of_rounds("max_x", vec![4.0, 1.0]) - 4.0).abs() < f64::EPSILON);
    }

    #[test]
    fn percentiles_by_nearest_rank() {
        let list: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&list, 0.5), Some(50.0));
        assert_eq!(percentile(&list, 0.99), Some(99.0));
        assert_eq!(percentile(&list[..1], 0.99), Some(1.0));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
