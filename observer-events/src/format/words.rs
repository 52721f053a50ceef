//! Numbers as people read them.

use std::fmt::{self, Display};

use observer_common::frame::NONCE_TERMINAL;

/// A count with what was counted, in the singular for one.
///
/// ```
/// use observer_events::format::Count;
///
/// assert_eq!(Count(1, "stall", "stalls").to_string(), "1 stall");
/// assert_eq!(Count(0, "stall", "stalls").to_string(), "0 stalls");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Count<'a>(pub u64, pub &'a str, pub &'a str);

impl Display for Count<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, one, more) = self;
        write!(f, "{count} {}", if *count == 1 { one } else { more })
    }
}

/// A nonce; the one of an agent's last word, which is no count, in words.
///
/// ```
/// use observer_events::format::Nonce;
///
/// assert_eq!(Nonce(17).to_string(), "17");
/// assert_eq!(Nonce(u64::MAX).to_string(), "final");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Nonce(pub u64);

impl Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            NONCE_TERMINAL => f.pad("final"),
            nonce => nonce.fmt(f),
        }
    }
}
