//! Which connections a listener serves, and which it closes when their place is
//! needed.
//!
//! A new connection always gets a place, and loses it to the next one if it
//! requests nothing: no number of connections keeps a scraper out. Some places
//! are only for connections that have requested something that they may have.
//! One address of the network has a few places, so that many connections from
//! there replace each other.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

/// Connections that are served at the same time, for each listener.
const CONNECTIONS: usize = 16;
/// Of these, for peers that have had a response.
const KEPT: usize = 4;
/// Of one address of the network.
const OF_ADDRESS: usize = 4;
/// Of one user, at a Unix socket.
const OF_USER: usize = 8;

/// Whose connection it is, as far as places are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// Somebody on this host; of TCP the kernel does not show which user.
    Local,
    /// An address of the network; of IPv6 the network part, as one host has
    /// all others.
    Network(IpAddr),
    /// A user, at a Unix socket; `None`: the kernel does not show which.
    User(Option<u32>),
}

impl Peer {
    pub(super) fn at(address: IpAddr) -> Self {
        let address = address.to_canonical();
        if address.is_loopback() {
            return Self::Local;
        }
        Self::Network(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(address) => {
                let network = address.to_bits() & !u128::from(u64::MAX);
                IpAddr::V6(network.into())
            }
        })
    }

    fn limit(self) -> usize {
        match self {
            Self::Local => CONNECTIONS,
            Self::Network(_) => OF_ADDRESS,
            Self::User(_) => OF_USER,
        }
    }
}

/// The places of one listener.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    /// Numbers the connections.
    count: u64,
    held: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    number: u64,
    peer: Peer,
    /// It has requested something that it may have.
    is_served: bool,
    is_waiting: bool,
    /// When it connected, or last had a response.
    since: Instant,
    is_needed: Arc<Notify>,
}

/// A connection's place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    places: Places,
    number: u64,
    is_needed: Arc<Notify>,
}

impl Places {
    /// A place for a new connection; `None` if all are busy.
    pub(super) fn admit(&self, peer: Peer) -> Option<Lease> {
        let mut table = self.lock();
        table.make_room(peer.limit(), |held| held.peer == peer)?;
        table.make_room(CONNECTIONS.saturating_sub(KEPT), |held| !held.is_served)?;
        table.make_room(CONNECTIONS, |_| true)?;
        table.count = table.count.wrapping_add(1);
        let (number, is_needed) = (table.count, Arc::new(Notify::new()));
        table.held.push(Held {
            number,
            peer,
            is_served: false,
            is_waiting: false,
            since: Instant::now(),
            is_needed: Arc::clone(&is_needed),
        });
        Some(Lease {
            places: self.clone(),
            number,
            is_needed,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        let Self(table) = self;
        table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Takes the place of one of these connections if there are `limit` of them:
    /// of those that wait for no response, of the one that was never served or,
    /// if there is none, of the one that has requested nothing for longest.
    /// `None` if all wait for a response.
    fn make_room(&mut self, limit: usize, is_one: impl Fn(&Held) -> bool) -> Option<()> {
        if self.held.iter().filter(|held| is_one(held)).count() < limit {
            return Some(());
        }
        let candidates = self.held.iter().enumerate();
        let (at, _) = candidates
            .filter(|(_, held)| is_one(held) && !held.is_waiting)
            .min_by_key(|(_, held)| (held.is_served, held.since, held.number))?;
        // It wakes up even if it does not wait for this yet.
        self.held.remove(at).is_needed.notify_one();
        Some(())
    }
}

impl Lease {
    /// Waits until another connection needs the place.
    pub(super) async fn needed(&self) {
        self.is_needed.notified().await;
    }

    /// The peer requests something, which it may have or not.
    pub(super) fn begin(&self, is_allowed: bool) {
        self.with(|held| {
            held.is_waiting = true;
            held.is_served |= is_allowed;
        });
    }

    /// It has its response.
    pub(super) fn end(&self) {
        self.with(|held| {
            held.is_waiting = false;
            held.since = Instant::now();
        });
    }

    fn with(&self, change: impl FnOnce(&mut Held)) {
        let mut table = self.places.lock();
        let mut held = table.held.iter_mut();
        if let Some(held) = held.find(|held| held.number == self.number) {
            change(held);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let number = self.number;
        self.places.lock().held.retain(|held| held.number != number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Peer {
        Peer::at(address.parse().unwrap())
    }

    fn held(places: &Places) -> Vec<u64> {
        places.lock().held.iter().map(|held| held.number).collect()
    }

    /// So many new connections, and what each does.
    fn admit(places: &Places, count: usize, then: impl Fn(&Lease)) -> Vec<Lease> {
        let admitted = (0..count).filter_map(|_| places.admit(Peer::Local));
        admitted.inspect(then).collect()
    }

    fn request(lease: &Lease) {
        lease.begin(true);
    }

    fn get_served(lease: &Lease) {
        lease.begin(true);
        lease.end();
    }

    fn nothing(_: &Lease) {}

    #[test]
    fn who_requests_nothing_makes_room() {
        let places = Places::default();
        let all = admit(&places, 40, nothing);
        assert_eq!(all.len(), 40, "each got a place");
        assert_eq!(held(&places), (29..=40).collect::<Vec<_>>());
        drop(all);
        assert!(held(&places).is_empty());
    }

    #[test]
    fn who_may_not_have_what_it_requests_makes_room() {
        let places = Places::default();
        let _refused = admit(&places, 4, |lease| {
            lease.begin(false);
            lease.end();
        });
        let _others = admit(&places, 12, nothing);
        assert_eq!(held(&places), (5..=16).collect::<Vec<_>>());
    }

    #[test]
    fn who_was_served_keeps_its_place_among_those_who_were_not() {
        let places = Places::default();
        let _served = admit(&places, 4, get_served);
        let _others = admit(&places, 40, nothing);
        assert_eq!(held(&places)[..4], [1, 2, 3, 4]);
        assert_eq!(held(&places).len(), CONNECTIONS);
    }

    #[test]
    fn of_those_who_were_served_the_longest_idle_makes_room() {
        let places = Places::default();
        let served = admit(&places, CONNECTIONS, get_served);
        request(&served[0]);
        let _new = admit(&places, 1, nothing);
        let left: Vec<u64> = [1].into_iter().chain(3..=17).collect();
        assert_eq!(held(&places), left);
    }

    #[test]
    fn while_all_are_busy_nobody_is_let_in() {
        let places = Places::default();
        let busy = admit(&places, CONNECTIONS, request);
        assert!(places.admit(Peer::Local).is_none());
        busy[0].end();
        assert!(places.admit(Peer::Local).is_some());
    }

    /// A network of IPv6 addresses counts as one address.
    #[test]
    fn an_address_of_the_network_takes_places_of_its_own_only() {
        let places = Places::default();
        let _other = places.admit(peer("192.0.2.1")).unwrap();
        let crowd = ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:1"];
        let _crowd: Vec<Lease> = crowd
            .iter()
            .cycle()
            .take(30)
            .filter_map(|address| places.admit(peer(address)))
            .collect();
        assert_eq!(held(&places), [1, 28, 29, 30, 31]);
        assert_eq!(peer("::ffff:127.0.0.1"), Peer::Local);
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_ne!(peer("2001:db8:0:1::1"), peer("2001:db8::1"));
    }

    #[tokio::test]
    async fn who_lost_its_place_notices_it_later_too() {
        let places = Places::default();
        let first = places.admit(Peer::Local).unwrap();
        let _others = admit(&places, 12, nothing);
        first.needed().await;
        // It is too late to request anything.
        first.begin(true);
        assert!(!held(&places).contains(&1));
    }
}
