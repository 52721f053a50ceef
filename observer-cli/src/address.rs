//! Addresses as flags take them.

use std::net::SocketAddr;

/// Names are not looked up: the observer starts at boot, before anybody
/// answers, and a name can stand for several addresses.
pub(crate) fn parse_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| {
        "not an IP address and a port, such as 127.0.0.1:7878 or [::1]:7878; names are not looked \
         up"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_not_looked_up() {
        assert_eq!(parse_address("[::1]:7"), Ok("[::1]:7".parse().unwrap()));
        for bad in ["localhost:7", "127.0.0.1", "::1:7", ":7", ""] {
            assert!(parse_address(bad).unwrap_err().contains("names"), "{bad}");
        }
    }
}
