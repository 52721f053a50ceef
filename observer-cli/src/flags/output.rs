//! What is written to stdout.

use clap::{Args, ValueEnum};
use observer_events::format::Format as Report;

use crate::stream::Stream;

#[derive(Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Events on stdout")]
pub(crate) struct Output {
    /// Format of the events. Events that the reader of stdout is too slow for
    /// are counted and left out; beats are never delayed
    #[arg(long = "output", value_name = "FORMAT", value_enum, default_value_t = Format::Human)]
    format: Format,

    /// Short for --output json
    #[arg(long, conflicts_with = "format")]
    json: bool,

    /// How to write fields of 64 bits, such as nonces and times, in JSON.
    /// JavaScript, and jq before 1.7, lose digits of numbers beyond 2^53
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Numbers::Number)]
    json_u64: Numbers,

    /// Which events to write. Beats are by far the most; metrics and
    /// `observer status` count them in either case
    #[arg(long, value_name = "WHICH", value_enum, default_value_t = Events::All)]
    events: Events,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One aligned line for each event; coloured on a terminal
    Human,
    /// One JSON object on a line for each event
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Numbers {
    /// As numbers
    Number,
    /// As strings
    String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Events {
    /// All events
    All,
    /// All events except beats
    Notable,
}

impl Output {
    pub(crate) fn format(&self) -> Report {
        match (self.is_json(), self.json_u64) {
            (true, Numbers::Number) => Report::Json,
            (true, Numbers::String) => Report::JsonTextNumbers,
            (false, _) => Report::Human {
                color: Stream::Stdout.color(),
            },
        }
    }

    /// Why these flags cannot be used together.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        (self.json_u64 == Numbers::String && !self.is_json())
            .then_some("--json-u64 string is for --json or --output json")
    }

    fn is_json(&self) -> bool {
        self.json || self.format == Format::Json
    }

    pub(crate) fn has_beats(&self) -> bool {
        self.events == Events::All
    }
}
