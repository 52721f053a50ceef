//! Sets up the UDP listeners.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;

use observer_common::listener::{LOOPBACK, MAX_LISTENERS};
use observer_events::event::Via;

use super::{Builder, StartError};
use crate::ebpf::{AttestOptions, Attestor, Traffic, UdpTraffic};
use crate::policy::{AttestMode, Network};
use crate::route::{UdpRoute, UdpSource};
use crate::transport::{ClosedUdpListener, UdpSocket, Way};

impl Builder {
    /// Binds the UDP listeners, attaches the program, and opens them.
    pub(super) fn udp_route(&self, options: &AttestOptions) -> Result<UdpRoute, StartError> {
        let wanted = self.wanted_listeners()?;
        if wanted.is_empty() {
            return Ok(UdpRoute::new(Vec::new(), Attestor::none(), false));
        }
        let devices = self.device_indices()?;
        let mut closed = Vec::new();
        for (address, network) in wanted {
            let listener = ClosedUdpListener::bind_ways(address, &devices)?;
            closed.push((listener, network));
        }
        let mut attestor = self.load_udp(options, &closed, &devices)?;
        let mut sockets = Vec::new();
        for (listener, network) in closed {
            self.open(listener, network, &mut attestor, &mut sockets)?;
        }
        Ok(UdpRoute::new(sockets, attestor, self.is_translated))
    }

    /// Attaches the program's filters to the sockets of a listener, and opens
    /// them.
    fn open(
        &self,
        listener: ClosedUdpListener,
        network: Network,
        attestor: &mut Attestor,
        sockets: &mut Vec<(UdpSource, UdpSocket)>,
    ) -> Result<(), StartError> {
        let is_attested = attestor.attests(listener.address());
        if is_attested || network == Network::Trusted {
            listener.check_spread()?;
        }
        if listener.is_joinable() {
            tracing::warn!(
                "udp {}: without CAP_CHOWN another process of this user could bind the same port, \
                 and take datagrams away",
                listener.address()
            );
        }
        for socket in listener.into_sockets() {
            let network = without_attestation(network, socket.way(), is_attested);
            let way = socket.way().filter(|_| is_attested);
            let is_filtered = attestor.attach_udp(socket.as_fd(), way, network)?;
            if self.tokens {
                socket.ask_for_marks()?;
            }
            sockets.push((UdpSource { network, way }, socket.open(is_filtered)?));
        }
        Ok(())
    }

    /// Loads the program for UDP, and sees to it that the operator agreed to
    /// what it cannot attest.
    fn load_udp(
        &self,
        options: &AttestOptions,
        closed: &[(ClosedUdpListener, Network)],
        devices: &[u32],
    ) -> Result<Attestor, StartError> {
        let bound: Vec<SocketAddr> = closed.iter().map(|(socket, _)| socket.address()).collect();
        let is_trusted = |&(_, network): &(_, Network)| network == Network::Trusted;
        let traffic = Traffic::Udp(UdpTraffic {
            cgroup: self.cgroup.as_deref(),
            listeners: &bound,
            gate: self.limits(),
            devices,
            records_others: !devices.is_empty() || closed.iter().any(is_trusted),
            tokens: self.tokens,
        });
        let is_agreed = |&(_, network): &(_, Network)| network == Network::Unverified;
        let attestor = match Attestor::load(options, traffic) {
            Ok(attestor) => attestor,
            Err(error)
                if error.is_for_ipv6_only()
                    && closed.iter().all(is_agreed)
                    && self.min_tier.is_none() =>
            {
                Attestor::without(&error)
            }
            Err(error) => return Err(StartError::CannotAttestUdp(error)),
        };
        let demands_a_tier = self.attest == AttestMode::Require || self.min_tier.is_some();
        if !demands_a_tier || attestor.via() == Via::Scm {
            return Ok(attestor);
        }
        for (listener, network) in closed {
            let address = listener.address();
            match network {
                _ if attestor.attests(address) => {}
                Network::Unverified if self.min_tier.is_none() => {}
                Network::Trusted => return Err(StartError::TrustUnattested(address)),
                Network::Unverified | Network::Refused => {
                    return Err(StartError::CannotAttestListener(address));
                }
            }
        }
        Ok(attestor)
    }

    /// The devices that the operator declared, as the kernel numbers them.
    fn device_indices(&self) -> Result<Vec<u32>, StartError> {
        let names = self.attested_devices.iter();
        names.map(|name| device_index(name)).collect()
    }

    /// What to listen on, each address once, and what its datagrams are worth
    /// without a record.
    pub(super) fn wanted_listeners(&self) -> Result<Vec<(SocketAddr, Network)>, StartError> {
        let unverified = if self.accept_network_beats {
            Network::Unverified
        } else {
            Network::Refused
        };
        let mut wanted: Vec<(SocketAddr, Network)> = Vec::new();
        let trusted = self.trusted_udp.iter().map(|&at| (at, Network::Trusted));
        let others = self.udp.iter().map(|&at| (at, unverified));
        for (address, network) in trusted.chain(others) {
            // `::ffff:127.0.0.1` is an address of IPv4.
            let address = SocketAddr::new(address.ip().to_canonical(), address.port());
            // Port 0 asks for another port each time.
            let is_new = address.port() == 0 || wanted.iter().all(|&(other, _)| other != address);
            if !is_new {
                continue;
            }
            if network == Network::Refused && !address.ip().is_loopback() {
                return Err(StartError::NoConsent(address));
            }
            wanted.push((address, network));
        }
        if wanted.len() > MAX_LISTENERS {
            return Err(StartError::TooManyListeners(wanted.len()));
        }
        Ok(wanted)
    }
}

/// What a socket's datagrams are worth: where nobody is attested, a process of
/// this host is still no network that the operator vouches for.
fn without_attestation(network: Network, way: Option<Way>, is_attested: bool) -> Network {
    match (network, way) {
        (Network::Trusted, Some(Way::Loopback)) if !is_attested => Network::Unverified,
        (network, _) => network,
    }
}

/// Index of a network device of this network namespace. Scoped addresses of
/// IPv6 are the reason that there is such a call at all (RFC 3493).
fn device_index(name: &str) -> Result<u32, StartError> {
    let refuse = |reason: String| StartError::Device {
        name: name.to_owned(),
        reason,
    };
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)
        .map_err(|error| refuse(error.to_string()))?;
    let index = rustix::net::netdevice::name_to_index(&socket, name)
        .map_err(|error| refuse(error.to_string()))?;
    match index {
        LOOPBACK => Err(refuse("what comes by it is attested anyhow".into())),
        index => Ok(index),
    }
}
