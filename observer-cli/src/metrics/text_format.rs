//! The text formats that scrapers request.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextFormat {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// Prometheus's own, 0.0.4: for `promtool check metrics`, and for scrapers
    /// that do not request the other.
    Classic,
}

impl TextFormat {
    /// What a scraper's `Accept` header requests: `OpenMetrics` where it is
    /// named, unless plain text is preferred.
    #[must_use]
    pub(crate) fn accepted(accept: Option<&str>) -> Self {
        let preference = |name| preference(accept.unwrap_or_default(), name);
        let open = preference("application/openmetrics-text");
        if open > 0.0 && open >= preference("text/plain") {
            Self::OpenMetrics
        } else {
            Self::Classic
        }
    }

    /// The `Content-Type` of the text.
    #[must_use]
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// How much an `Accept` header prefers a type: its `q` there (RFC 9110, section
/// 12.5.1), 0 where it is not named or the number is none.
fn preference(accept: &str, name: &str) -> f32 {
    let mut entries = accept.split(',').map(|entry| entry.split(';'));
    let named = entries.find_map(|mut words| {
        let is_it = words.next()?.trim().eq_ignore_ascii_case(name);
        is_it.then_some(words)
    });
    let Some(mut parameters) = named else {
        return 0.0;
    };
    let q = parameters.find_map(|word| word.trim().strip_prefix("q="));
    q.map_or(1.0, |q| q.parse().unwrap_or(0.0))
}
