//! The UDP socket that connections leave by: one of its own for each, or one for many clients of a process.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use quinn::{Endpoint, EndpointConfig, TokioRuntime};
use socket2::{Domain, Protocol, Socket, Type};

/// What the buffers of a socket that many share should hold, bytes; the system may grant less.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// One UDP port for many clients of a process.
#[derive(Clone)]
pub struct SharedEndpoint {
    endpoint: Endpoint,
}

impl SharedEndpoint {
    /// Takes a port; `0.0.0.0:0` takes a free one, for nodes with IPv4 addresses. To be called in a tokio runtime.
    ///
    /// # Errors
    /// The system's.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = bound(address)?;
        for granted in
            [socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES), socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)]
        {
            if let Err(error) = granted {
                tracing::debug!(%error, "the socket keeps its buffer");
            }
        }
        Ok(Self { endpoint: endpoint(socket.into())? })
    }

    /// Where it is bound.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Goes on with another port or address: the connections stay, as their nodes see them come from there.
    ///
    /// # Errors
    /// The system's; the old port is kept then.
    pub fn rebind(&self, address: SocketAddr) -> io::Result<()> {
        self.endpoint.rebind(bound(address)?.into())
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

/// An endpoint for one connection to this address.
pub(super) fn own(remote: SocketAddr) -> io::Result<Endpoint> {
    let any = match remote {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    endpoint(bound(any)?.into())
}

fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn endpoint(socket: UdpSocket) -> io::Result<Endpoint> {
    Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime))
}
