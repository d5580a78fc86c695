//! TCP: listening, connecting, and what an address means.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thread_start::Starter;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::aside::Aside;
use crate::connection::Peer;
use crate::error::OpenError;
use crate::look_up::look_up;
use crate::stream::Stream;

/// Ports that are tried before others have their turn: some 100 us.
const PORTS_IN_A_ROW: u16 = 8;

/// The longest name of a host, in bytes: what a name can have is 253, and an address with its zone is shorter.
const LONGEST_HOST: usize = 255;

/// A TCP address as the user gave it.
#[derive(Debug)]
pub(crate) struct TcpAddress {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) ipv4: Option<bool>,
    pub(crate) ipv6: Option<bool>,
    pub(crate) numeric: bool,
    pub(crate) keep_alive: bool,
    /// Starts the threads that look names up.
    pub(crate) starter: Starter,
}

impl TcpAddress {
    /// As QEMU writes it: IPv6 addresses have no brackets.
    pub(crate) fn text(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Listens at the first address that can be listened at, and there at the first free port from `port` to `to`. Which
    /// that is may change from one time to the next, so unless `insecure` all must be this host's alone. Only a port that is
    /// taken is a reason to try the next.
    pub(crate) async fn listen(
        &self,
        to: Option<u16>,
        backlog: u32,
        insecure: bool,
    ) -> Result<TcpListener, OpenError> {
        let addresses = self.resolve(true).await?;
        let reachable = |address: &&SocketAddr| !address.ip().to_canonical().is_loopback();
        if !insecure && let Some(address) = addresses.iter().find(reachable) {
            return Err(OpenError::NotLoopback { address: address.to_string() });
        }
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for mut address in addresses {
            for port in self.port..=to.unwrap_or(self.port).max(self.port) {
                address.set_port(port);
                match self.listen_at(address, backlog) {
                    Ok(listener) => return Ok(listener),
                    Err(error) => last = error,
                }
                if last.kind() != io::ErrorKind::AddrInUse {
                    break;
                }
                if port % PORTS_IN_A_ROW == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
        Err(match last.kind() {
            io::ErrorKind::AddrInUse => OpenError::NoPort { source: last },
            _ => OpenError::BindTcp { source: last },
        })
    }

    fn listen_at(&self, address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        if address.is_ipv6() {
            rustix::net::sockopt::set_ipv6_v6only(&socket, !self.allows(true))?;
        }
        socket.bind(address)?;
        socket.listen(backlog)
    }

    /// Connects to the first address that can be reached.
    pub(crate) async fn connect(&self) -> Result<(Stream, Peer), OpenError> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in self.resolve(false).await? {
            match TcpStream::connect(address).await.and_then(|connected| stream(connected.into())) {
                Ok(connected) => {
                    if self.keep_alive
                        && let Stream::Tcp(stream) = &connected.0
                    {
                        let _ = rustix::net::sockopt::set_socket_keepalive(&**stream, true);
                    }
                    return Ok(connected);
                }
                Err(error) => last = error,
            }
        }
        Err(OpenError::Connect { address: self.text(), source: last })
    }

    /// No name of a host is that long, nor kept for trying again and again.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        if self.host.len() <= LONGEST_HOST {
            return Ok(());
        }
        let source = io::Error::other("Name or service not known");
        Err(OpenError::Resolve { address: self.text(), source })
    }

    /// Whether a family may be used: what is not said is yes, unless the other one was asked for.
    fn allows(&self, ipv4: bool) -> bool {
        let (this, other) = if ipv4 { (self.ipv4, self.ipv6) } else { (self.ipv6, self.ipv4) };
        this.unwrap_or(other != Some(true))
    }

    async fn look_up(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![(ip, self.port).into()]);
        }
        look_up(&self.starter, host, self.port).await
    }

    async fn resolve(&self, listening: bool) -> Result<Vec<SocketAddr>, OpenError> {
        self.check()?;
        let failed = |source| OpenError::Resolve { address: self.text(), source };
        let mut addresses: Vec<SocketAddr> = if listening && self.host.is_empty() {
            // Everywhere: the IPv6 socket takes IPv4 too, unless told not to.
            let everywhere: [IpAddr; 2] = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
            everywhere.map(|ip| (ip, self.port).into()).into()
        } else {
            let host = if self.host.is_empty() { "localhost" } else { &self.host };
            if self.numeric && host.parse::<IpAddr>().is_err() {
                return Err(failed(io::Error::other("Name or service not known")));
            }
            self.look_up(host).await.map_err(failed)?
        };
        addresses.retain(|address| self.allows(address.is_ipv4()));
        if addresses.is_empty() {
            let numeric = self.host.parse::<IpAddr>().is_ok();
            return Err(failed(io::Error::other(match numeric {
                true => "Address family for hostname not supported",
                false => "Name or service not known",
            })));
        }
        Ok(addresses)
    }
}

/// An address as QEMU writes one that nobody is connected to: IPv6 has no brackets.
pub(crate) fn plain(address: SocketAddr) -> String {
    format!("{}:{}", address.ip(), address.port())
}

/// A connected socket as a stream. Replies are written whole, so they are sent at once (`TCP_NODELAY`).
pub(crate) fn stream(stream: Aside<TcpStream>) -> io::Result<(Stream, Peer)> {
    stream.set_nodelay(true)?;
    let address = stream.peer_addr()?;
    let peer = Peer { ip: Some(address.ip().to_canonical()), ..Peer::named(format!("tcp:{address}")) };
    Ok((Stream::Tcp(stream), peer))
}

/// What `query-chardev` calls a chardev with this client.
pub(crate) fn connected_name(stream: &TcpStream, server: bool) -> String {
    let text =
        |address: io::Result<SocketAddr>| address.map_or_else(|_| "?".into(), |found| found.to_string());
    let server = if server { ",server=on" } else { "" };
    format!("tcp:{}{server} <-> {}", text(stream.local_addr()), text(stream.peer_addr()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families() {
        let allows = |ipv4, ipv6| {
            let (host, starter) = (String::new(), Starter::default());
            let address =
                TcpAddress { host, port: 0, ipv4, ipv6, numeric: false, keep_alive: false, starter };
            (address.allows(true), address.allows(false))
        };
        assert_eq!(allows(None, None), (true, true));
        assert_eq!(allows(Some(true), None), (true, false));
        assert_eq!(allows(None, Some(true)), (false, true));
        assert_eq!(allows(Some(false), None), (false, true));
        assert_eq!(allows(Some(true), Some(true)), (true, true));
    }
}
