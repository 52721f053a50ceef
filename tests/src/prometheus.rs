//! A real Prometheus, scraping on loopback.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::observer::{Observer, PATIENCE};

/// A running Prometheus; killed by its own pid when dropped.
pub struct Prometheus {
    child: Child,
    port: u16,
    _folder: TempDir,
}

/// One of Debian's programs: `prometheus`, `promtool`. `PROMETHEUS_PATH` is
/// the folder that they are in; `cargo xtask test` sees to it.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    env::var_os("PROMETHEUS_PATH").map_or_else(
        || {
            crate::workspace()
                .join("target/tools/prometheus/usr/bin")
                .join(name)
        },
        |folder| PathBuf::from(folder).join(name),
    )
}

impl Prometheus {
    /// Starts it with the rules in this file, scraping this place each second
    /// in the format that it requests by itself: `OpenMetrics`.
    #[must_use]
    pub fn start(target: &str, rules: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let config = folder.path().join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: [\"{}\"]\n\
             scrape_configs:\n- job_name: observer\n  static_configs: [{{targets: [{target:?}]}}]\n",
            rules.display()
        );
        fs::write(&config, text).expect("writes");
        let port = free_port();
        let child = Command::new(program("prometheus"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("prometheus: {error}"));
        let prometheus = Self {
            child,
            port,
            _folder: folder,
        };
        prometheus.wait("it is ready", |prometheus| {
            get(prometheus.port, "/-/ready").is_some_and(|(head, _)| head.contains(" 200 "))
        });
        prometheus
    }

    /// The series that an expression gives now, as `labels` and `value`.
    #[must_use]
    pub fn query(&self, expression: &str) -> Vec<Value> {
        let response = self.request(&format!("/api/v1/query?query={}", encoded(expression)));
        assert_eq!(response["status"], "success", "{expression}: {response}");
        let result = response["data"]["result"].as_array().cloned();
        result.unwrap_or_default()
    }

    /// The value of an expression that gives one series.
    #[must_use]
    pub fn value(&self, expression: &str) -> Option<f64> {
        let series = self.query(expression);
        assert!(series.len() <= 1, "{expression}: {series:?}");
        series.first()?["value"][1].as_str()?.parse().ok()
    }

    /// The names of the alerts that fire.
    #[must_use]
    pub fn alerts(&self) -> Vec<String> {
        let response = self.request("/api/v1/alerts");
        let alerts = response["data"]["alerts"].as_array().cloned();
        alerts
            .unwrap_or_default()
            .iter()
            .filter(|alert| alert["state"] == "firing")
            .filter_map(|alert| alert["labels"]["alertname"].as_str().map(str::to_owned))
            .collect()
    }

    /// Waits until something is so; panics if it never is.
    pub fn wait(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < PATIENCE, "never: {what}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn request(&self, path: &str) -> Value {
        let (head, body) = get(self.port, path).expect("a response");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {head}\n{body}"))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Both fail only if it has ended and was waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The head and the body of the response of a server on loopback.
#[must_use]
pub fn get(port: u16, path: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    // HTTP/1.0: the response is not cut into chunks.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut response = String::new();
    stream.read_to_string(&mut response).ok()?;
    let (head, body) = response.split_once("\r\n\r\n")?;
    Some((head.to_owned(), body.to_owned()))
}

/// The port that an observer started with `--metrics 0` serves metrics at.
#[must_use]
pub fn metrics_port(observer: &Observer) -> u16 {
    let place = observer.log().iter().find_map(|line| {
        let (_, rest) = line.split_once("metrics at http://127.0.0.1:")?;
        rest.split('/').next()?.parse().ok()
    });
    place.expect("the log has it")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("it is bound").port()
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        write!(encoded, "%{byte:02X}").expect("a string takes everything");
        encoded
    })
}
