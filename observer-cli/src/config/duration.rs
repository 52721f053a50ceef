//! Durations with a unit, as `5s`.

use std::fmt;

use jiff::{Span, SpanRelativeTo};

/// What a flag counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
    Microseconds,
}

impl Unit {
    pub(super) const ALL: [Self; 3] = [Self::Seconds, Self::Milliseconds, Self::Microseconds];

    /// What the name of a flag ends in that counts in it.
    pub(super) const fn suffix(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Microseconds => "us",
        }
    }

    const fn nanoseconds(self) -> i128 {
        match self {
            Self::Seconds => 1_000_000_000,
            Self::Milliseconds => 1_000_000,
            Self::Microseconds => 1000,
        }
    }

    /// How many of them a duration has. A day has 24 hours; months and years
    /// have no length.
    ///
    /// # Errors
    /// If it is no duration with a unit, is negative, or has a part of one.
    pub(super) fn count(self, text: &str) -> Result<i128, String> {
        let span: Span = text.parse().map_err(|_| no_duration())?;
        let duration = span
            .to_duration(SpanRelativeTo::days_are_24_hours())
            .map_err(|_| no_duration())?;
        let nanoseconds = duration.as_nanos();
        if nanoseconds < 0 {
            return Err("a duration cannot be negative".into());
        }
        let unit = self.nanoseconds();
        match (nanoseconds.checked_div(unit), nanoseconds.checked_rem(unit)) {
            (Some(count), Some(0)) => Ok(count),
            _ => Err(format!("not a whole number of {self}")),
        }
    }
}

fn no_duration() -> String {
    "not a duration with a unit, such as \"250ms\", \"5s\", \"25h\" or \"1d\"".into()
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Seconds => "seconds",
            Self::Milliseconds => "milliseconds",
            Self::Microseconds => "microseconds",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        for (text, milliseconds) in [
            ("250ms", 250),
            ("5s", 5000),
            ("1.5s", 1500),
            ("2m", 120_000),
            ("25h", 90_000_000),
            ("1d", 86_400_000),
            ("1m 30s", 90_000),
            ("5 seconds", 5000),
            ("0s", 0),
        ] {
            assert_eq!(Unit::Milliseconds.count(text), Ok(milliseconds), "{text}");
        }
        for bad in [
            "",
            "5",
            "s",
            "-5s",
            "5s ago",
            "1y",
            "1mo",
            "250us",
            "5x",
            "1e9s",
            "99999999999999999999s",
        ] {
            assert!(Unit::Milliseconds.count(bad).is_err(), "{bad}");
        }
        assert_eq!(Unit::Microseconds.count("250us"), Ok(250));
        assert_eq!(Unit::Seconds.count("2m"), Ok(120));
    }
}
