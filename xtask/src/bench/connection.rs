//! A TCP connection to a broker: a blocking handshake, then non-blocking I/O.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::bench::error::{BenchError, io};
use crate::bench::frames;

/// How long a broker may take to answer a CONNECT or SUBSCRIBE.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Connects, waits for the CONNACK, and subscribes where a filter is given.
pub fn open(
    address: SocketAddr,
    client_id: &str,
    filter: Option<(&str, u8)>,
) -> Result<mio::net::TcpStream, BenchError> {
    let mut stream = TcpStream::connect(address).map_err(io("connecting to the broker"))?;
    let set_up = stream.set_nodelay(true);
    set_up.and_then(|()| stream.set_read_timeout(Some(HANDSHAKE_MAX))).map_err(io("setting up a socket"))?;
    exchange(&mut stream, &frames::connect(client_id), [0x20, 2, 0, 0])?;
    if let Some((filter, qos)) = filter {
        let mut suback = [0u8; 5];
        send(&mut stream, &frames::subscribe(filter, qos))?;
        receive(&mut stream, &mut suback)?;
        if suback != [0x90, 3, 0, 1, qos] {
            return Err(BenchError::Protocol("a SUBACK that does not grant the QoS"));
        }
    }
    stream.set_nonblocking(true).map_err(io("setting up a socket"))?;
    Ok(mio::net::TcpStream::from_std(stream))
}

fn exchange(stream: &mut TcpStream, packet: &[u8], expected: [u8; 4]) -> Result<(), BenchError> {
    let mut answer = [0u8; 4];
    send(stream, packet)?;
    receive(stream, &mut answer)?;
    match answer == expected {
        true => Ok(()),
        false => Err(BenchError::Protocol("a CONNACK that refuses the client")),
    }
}

fn send(stream: &mut TcpStream, packet: &[u8]) -> Result<(), BenchError> {
    stream.write_all(packet).map_err(io("sending a packet"))
}

fn receive(stream: &mut TcpStream, answer: &mut [u8]) -> Result<(), BenchError> {
    stream.read_exact(answer).map_err(io("waiting for the broker's answer"))
}

/// Writes what the socket takes now; 0 when it is full.
pub fn write_some(stream: &mut mio::net::TcpStream, bytes: &[u8]) -> Result<usize, BenchError> {
    match stream.write(bytes) {
        Ok(written) => Ok(written),
        Err(error) if is_transient(error.kind()) => Ok(0),
        Err(error) => Err(io("writing to the broker")(error)),
    }
}

/// Reads what is there now; 0 when there is nothing.
pub fn read_some(stream: &mut mio::net::TcpStream, buffer: &mut [u8]) -> Result<usize, BenchError> {
    match stream.read(buffer) {
        Ok(0) => Err(BenchError::Closed),
        Ok(read) => Ok(read),
        Err(error) if is_transient(error.kind()) => Ok(0),
        Err(error) => Err(io("reading from the broker")(error)),
    }
}

fn is_transient(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
