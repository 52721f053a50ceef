//! What an observer finds out, as facts: events, who sent, what was counted, and
//! how all that reads as JSON or for people.
//!
//! Nothing here receives, attests or waits: whoever reads what an observer
//! wrote needs this crate only.

pub mod agents;
pub mod counters;
pub mod event;
pub mod exe;
pub mod format;
pub mod histogram;
pub mod report;
pub mod snapshot;

pub use counters::Counters;
pub use event::Event;
pub use report::{Evidence, Notice, Observation, Report};
