//! The control socket: what its server and its clients agree on, and the
//! client.

mod client;

pub(crate) use self::client::fetch_status;

/// Path of the status, in requests.
pub(crate) const STATUS_PATH: &str = "/status";
/// How many agents are listed one by one if the request does not say.
pub(crate) const DEFAULT_ROWS: usize = 64;
/// How many are listed at most: the observing thread makes the list, in about
/// a millisecond for so many.
pub(crate) const MAX_ROWS: usize = 4096;

/// The parameter with the number of agents.
const ROWS: &str = "agents=";

/// What to request for a status that lists so many agents.
fn status_target(rows: usize) -> String {
    format!("{STATUS_PATH}?{ROWS}{rows}")
}

/// How many agents a request wants listed.
pub(crate) fn requested_rows(query: Option<&str>) -> usize {
    let rows = query
        .and_then(|query| query.strip_prefix(ROWS))
        .and_then(|number| number.parse().ok());
    rows.unwrap_or(DEFAULT_ROWS).min(MAX_ROWS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_reads_what_the_client_requests() {
        for (rows, granted) in [(0, 0), (7, 7), (MAX_ROWS + 1, MAX_ROWS)] {
            let target = status_target(rows);
            let (path, query) = target.split_once('?').unwrap();
            assert_eq!((path, requested_rows(Some(query))), (STATUS_PATH, granted));
        }
        for other in [None, Some(""), Some("agents=x"), Some("rows=1")] {
            assert_eq!(requested_rows(other), DEFAULT_ROWS);
        }
    }
}
