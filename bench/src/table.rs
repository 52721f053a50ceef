//! Markdown, one table a case.

use std::fmt::Write as _;

use crate::outcome::Median;

/// A column: its heading, the figure in it, and how many digits of that come
/// after the point.
pub struct Column(pub &'static str, pub &'static str, pub usize);

/// Columns of one topic.
pub struct Layout {
    pub topic: &'static str,
    pub columns: &'static [Column],
    /// What stands for a figure that there is none of.
    pub absent: &'static str,
}

/// All cases of the topics.
pub fn render(layouts: &[Layout], medians: &[Median]) -> String {
    let mut text = String::new();
    for layout in layouts {
        let of_topic: Vec<&Median> = medians
            .iter()
            .filter(|median| median.topic == layout.topic)
            .collect();
        let mut cases: Vec<&str> = Vec::new();
        for median in &of_topic {
            if !cases.contains(&median.case.as_str()) {
                cases.push(&median.case);
            }
        }
        for case in cases {
            let rows = of_topic.iter().filter(|median| median.case == case);
            write!(text, "\n#### {}: {case}\n\n", layout.topic).expect("memory");
            table(&mut text, layout, rows.copied());
        }
    }
    text
}

fn table<'a>(text: &mut String, layout: &Layout, rows: impl Iterator<Item = &'a Median>) {
    text.push_str("| |");
    for Column(heading, ..) in layout.columns {
        write!(text, " {heading} |").expect("memory");
    }
    text.push_str("\n|---|");
    text.push_str(&"---:|".repeat(layout.columns.len()));
    text.push('\n');
    for row in rows {
        write!(text, "| {} |", row.subject).expect("memory");
        if let Some(reason) = &row.not_run {
            writeln!(text, " {reason} |").expect("memory");
            continue;
        }
        for Column(_, figure, digits) in layout.columns {
            match row.figures.get(figure) {
                Some(value) => write!(text, " {} |", grouped(*value, *digits)),
                None => write!(text, " {} |", layout.absent),
            }
            .expect("memory");
        }
        text.push('\n');
    }
}

/// With a comma between thousands.
fn grouped(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.as_str()),
    };
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut result = String::from(sign);
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            result.push(',');
        }
        result.push(digit);
    }
    result + fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_have_commas() {
        assert_eq!(grouped(1_234_567.89, 1), "1,234,567.9");
        assert_eq!(grouped(-123.0, 0), "-123");
        assert_eq!(grouped(-1234.0, 0), "-1,234");
    }
}
