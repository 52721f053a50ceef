//! What requests are made of, and responses.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;

use crate::common::{Running, Scene};

pub(crate) const SCRAPE: &str = "GET /metrics HTTP/1.1";

/// The port that metrics are served at.
pub(crate) fn port(running: &mut Running) -> u16 {
    let log = running.logged().join("\n");
    let (_, rest) = log.split_once("metrics at http://127.0.0.1:").unwrap();
    rest.split('/').next().unwrap().parse().unwrap()
}

/// A file with a token, for its owner only; returns its path.
pub(crate) fn token_file(scene: &Scene, token: &str) -> String {
    let path = scene.name("token");
    fs::write(&path, token).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Sends a request; the response's head and body.
pub(crate) fn request(mut stream: impl Read + Write, line: &str) -> (String, String) {
    // Whoever refuses a request that is too long need not read all of it.
    drop(write!(
        stream,
        "{line}\r\nHost: x\r\nConnection: close\r\n\r\n"
    ));
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

pub(crate) fn request_at(port: u16, line: &str) -> (String, String) {
    request(TcpStream::connect(("127.0.0.1", port)).unwrap(), line)
}
