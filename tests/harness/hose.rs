//! A way by TCP in a box: it passes bytes on, as fast as it is told, until it is cut.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Bytes that are passed on at once: a fifth of a second at 50 kbit/s.
const PIECE_BYTES: usize = 1_200;

/// A relay from a port of the loopback interface to another one. It ends when it is dropped.
pub struct Hose {
    shared: Arc<Shared>,
    address: SocketAddr,
}

#[derive(Default)]
struct Shared {
    open: Mutex<Vec<TcpStream>>,
    connections: AtomicU64,
    /// 0 sets no bound.
    bytes_per_s: AtomicU64,
    stands_still: AtomicBool,
    is_over: AtomicBool,
}

impl Hose {
    /// Takes connections at `at`. An error where somebody else has that port.
    pub fn start(at: SocketAddr, to: SocketAddr) -> std::io::Result<Hose> {
        let (shared, listener) = (Arc::<Shared>::default(), TcpListener::bind(at)?);
        let address = listener.local_addr().unwrap();
        let taking = Arc::clone(&shared);
        std::thread::spawn(move || {
            for near in listener.incoming() {
                if taking.is_over.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(near), Ok(far)) = (near, TcpStream::connect(to)) else { continue };
                taking.connections.fetch_add(1, Ordering::Relaxed);
                taking.pass(&near, &far);
                taking.pass(&far, &near);
                taking.open.lock().unwrap().extend([near, far]);
            }
        });
        Ok(Hose { shared, address })
    }

    /// Cuts all connections; new ones are taken.
    pub fn cut(&self) {
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Connections so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// From now on so many bytes a second go each way.
    pub fn set_bytes_per_s(&self, bytes: u64) {
        self.shared.bytes_per_s.store(bytes, Ordering::Relaxed);
    }

    /// Nothing goes, and nothing is lost.
    pub fn stand_still(&self, still: bool) {
        self.shared.stands_still.store(still, Ordering::Relaxed);
    }
}

impl Shared {
    fn pass(self: &Arc<Self>, from: &TcpStream, to: &TcpStream) {
        let (shared, mut from, mut to) = (Arc::clone(self), from.try_clone().unwrap(), to.try_clone().unwrap());
        std::thread::spawn(move || {
            let mut bytes = [0; 16 << 10];
            loop {
                let rate = shared.bytes_per_s.load(Ordering::Relaxed);
                let most = if rate > 0 { PIECE_BYTES } else { bytes.len() };
                let count = from.read(&mut bytes[..most]).unwrap_or(0);
                while shared.stands_still.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                if count == 0 || to.write_all(&bytes[..count]).is_err() {
                    let _ = to.shutdown(Shutdown::Both);
                    return;
                }
                if let Some(us) = (count as u64 * 1_000_000).checked_div(rate) {
                    std::thread::sleep(Duration::from_micros(us));
                }
            }
        });
    }
}

impl Drop for Hose {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.cut();
        // Its thread looks when the next one comes.
        let _ = TcpStream::connect(self.address);
    }
}
