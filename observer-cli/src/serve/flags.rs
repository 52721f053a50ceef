//! Who may ask, and where.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, ensure};
use clap::Args;

/// The flags of `observer run` that are about questions.
#[derive(Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Metrics and status")]
pub(crate) struct Flags {
    /// Serve metrics for Prometheus at /metrics, over HTTP: on a loopback
    /// port, or at a Unix socket of mode 0660; may be given several times. A
    /// port alone is one of 127.0.0.1. Other addresses need --metrics-token
    #[arg(long, value_name = "[ADDR:]PORT|unix:PATH")]
    pub(super) metrics: Vec<Place>,

    /// File with the token that scrapers must show (as `Authorization:
    /// Bearer ...`). The token crosses the network as it is
    #[arg(long, value_name = "FILE", requires = "metrics")]
    metrics_token: Option<PathBuf>,

    /// Socket for `observer status` and `observer top`, of mode 0600; only
    /// the observer's own user and root are answered
    #[arg(long, value_name = "PATH")]
    pub(super) control: Option<PathBuf>,
}

/// Where metrics are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// The shortest token that is worth the name.
const MIN_TOKEN: usize = 16;

impl Flags {
    /// The token that scrapers must show.
    pub(super) fn token(&self) -> anyhow::Result<Option<String>> {
        let Some(path) = &self.metrics_token else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the token in {}", path.display()))?;
        let token = text.trim();
        ensure!(
            token.len() >= MIN_TOKEN && token.bytes().all(|byte| byte.is_ascii_graphic()),
            "{} holds no token: {MIN_TOKEN} or more printable characters without spaces",
            path.display()
        );
        Ok(Some(token.to_owned()))
    }
}

/// What the flags demand together and cannot have.
pub(crate) fn check(flags: &Flags) -> Option<&'static str> {
    let reachable = flags.metrics.iter().any(|place| match place {
        Place::Tcp(address) => !address.ip().to_canonical().is_loopback(),
        Place::Unix(_) => false,
    });
    (reachable && flags.metrics_token.is_none()).then_some(
        "--metrics at an address that other hosts can reach tells them who beats and who lies; \
         give it a --metrics-token, or serve a loopback address",
    )
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("unix: needs a path".into()),
                path => Ok(Self::Unix(path.into())),
            };
        }
        if let Ok(port) = text.parse() {
            return Ok(Self::Tcp((IpAddr::V4(Ipv4Addr::LOCALHOST), port).into()));
        }
        text.parse()
            .map(Self::Tcp)
            .map_err(|_| "not ADDR:PORT, PORT or unix:PATH".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let tcp = |text: &str| Ok(Place::Tcp(text.parse().unwrap()));
        assert_eq!("9477".parse::<Place>(), tcp("127.0.0.1:9477"));
        assert_eq!("0.0.0.0:0".parse::<Place>(), tcp("0.0.0.0:0"));
        assert_eq!("[::1]:9477".parse::<Place>(), tcp("[::1]:9477"));
        assert_eq!("unix:/run/m".parse(), Ok(Place::Unix("/run/m".into())));
        for bad in ["", "unix:", "localhost:1", "1.2.3.4", "99999", "::1:1"] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }
}
