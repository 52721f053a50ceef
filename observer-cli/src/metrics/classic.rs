//! Prometheus's own text format, made of `OpenMetrics` text.
//!
//! The two differ, for what is exposed here, in the lines about a family:
//! [format 0.0.4][classic] names a counter's and an info's family as its
//! samples are named, has no type `info`, no units and no end mark.
//!
//! [classic]: https://prometheus.io/docs/instrumenting/exposition_formats/

/// Rewrites the lines about families.
pub(super) fn from_open_metrics(text: &str) -> String {
    let mut classic = String::with_capacity(text.len());
    let mut help = None;
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            // It stands before the type, which decides about the name.
            help = described.split_once(' ');
        } else if let Some((name, kind)) = typed(line) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                kind => ("", kind),
            };
            let text = help.take().map_or("", |(_, text)| text);
            let lines = format!("# HELP {name}{suffix} {text}\n# TYPE {name}{suffix} {kind}\n");
            classic.push_str(&lines);
        } else if !line.starts_with('#') {
            classic.extend([line, "\n"]);
        }
    }
    classic
}

fn typed(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("# TYPE ")?.split_once(' ')
}
