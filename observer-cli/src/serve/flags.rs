//! Where metrics and status are served, and to whom.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, ensure};
use clap::Args;
use rustix::fs::Mode;

use crate::flags::Named;

#[derive(Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Metrics and status")]
pub(crate) struct Flags {
    /// Serve metrics for Prometheus over HTTP, at /metrics: on a TCP port, by
    /// default of 127.0.0.1, or on a Unix socket of mode 0660. May be given
    /// several times. Addresses that other hosts can reach need
    /// --metrics-token
    #[arg(long, value_name = "[ADDR:]PORT|unix:PATH")]
    pub(super) metrics: Vec<Address>,

    /// File with a token of 16 or more characters that scrapers must send
    /// (`Authorization: Bearer ...`). It is refused where every user can read
    /// it. The token crosses the network unencrypted
    #[arg(long, value_name = "FILE", requires = "metrics")]
    metrics_token: Option<PathBuf>,

    /// Control socket for `observer status` and `observer top`, of mode 0600.
    /// Only the observer's own user and root may use it
    #[arg(long, value_name = "PATH")]
    pub(super) control: Option<PathBuf>,
}

/// Where metrics are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Characters of a token: fewer could be guessed.
const MIN_TOKEN: usize = 16;

impl Flags {
    /// The token that scrapers must send.
    pub(super) fn token(&self) -> anyhow::Result<Option<String>> {
        let Some(path) = &self.metrics_token else {
            return Ok(None);
        };
        let text = read_secret(path)
            .with_context(|| format!("cannot read the token in {}", path.display()))?;
        let token = text.trim();
        ensure!(
            token.len() >= MIN_TOKEN && token.bytes().all(|byte| byte.is_ascii_graphic()),
            "{} holds no token of {MIN_TOKEN} or more printable characters without spaces",
            path.display()
        );
        Ok(Some(token.to_owned()))
    }

    /// The sockets in the file system, with the flags that name them.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = Named<'_>> {
        let metrics = self.metrics.iter().filter_map(|address| match address {
            Address::Unix(path) => Some(("--metrics", path.as_path())),
            Address::Tcp(_) => None,
        });
        let control = self.control.as_deref().map(|path| ("--control", path));
        metrics.chain(control)
    }

    /// Why these flags cannot be used together.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        let is_reachable = self.metrics.iter().any(|address| match address {
            Address::Tcp(address) => !address.ip().to_canonical().is_loopback(),
            Address::Unix(_) => false,
        });
        (is_reachable && self.metrics_token.is_none()).then_some(
            "--metrics at an address that other hosts can reach needs --metrics-token; or serve \
             a loopback address",
        )
    }
}

impl FromStr for Address {
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
        text.parse().map(Self::Tcp).map_err(|_| {
            "not ADDR:PORT, PORT or unix:PATH. ADDR is an IP address, such as 127.0.0.1 or \
                 [::1]; names are not looked up"
                .into()
        })
    }
}

/// Reads a file that not everybody can read or replace. Its group may: so a
/// service gets its credentials, by a group of its own or by an access list,
/// which shows in the group's bits (`acl(5)`).
fn read_secret(path: &Path) -> anyhow::Result<String> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    ensure!(
        !Mode::from_raw_mode(mode).intersects(Mode::RWXO),
        "its mode {:04o} lets every user at it; change it to 0600 or 0640, and the token if \
         somebody may have read it",
        mode & 0o7777
    );
    Ok(io::read_to_string(file)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let tcp = |text: &str| Ok(Address::Tcp(text.parse().unwrap()));
        assert_eq!("9477".parse::<Address>(), tcp("127.0.0.1:9477"));
        assert_eq!("0.0.0.0:0".parse::<Address>(), tcp("0.0.0.0:0"));
        assert_eq!("[::1]:9477".parse::<Address>(), tcp("[::1]:9477"));
        assert_eq!("unix:/run/m".parse(), Ok(Address::Unix("/run/m".into())));
        for bad in ["", "unix:", "localhost:1", "1.2.3.4", "99999", "::1:1"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
