//! mosquitto, where it is installed: the broker that everybody knows.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::bench::error::{BenchError, io};

/// Where Debian and others put the program.
const PLACES: [&str; 3] = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/opt/homebrew/sbin/mosquitto"];
/// How long it may take to listen.
const START_MAX: Duration = Duration::from_secs(5);

/// A running mosquitto of our own, ended when this is dropped.
#[derive(Debug)]
pub struct Mosquitto {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    _folder: tempfile::TempDir,
}

/// The program, where there is one.
pub fn find() -> Option<PathBuf> {
    let in_path =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let candidates = in_path.into_iter().map(|folder| folder.join("mosquitto"));
    candidates.chain(PLACES.iter().map(PathBuf::from)).find(|path| path.is_file())
}

impl Mosquitto {
    /// Starts it on a free port of the loopback interface, without limits on
    /// its queues and without persistence: as fast as it can be.
    pub fn start(program: &PathBuf) -> Result<Mosquitto, BenchError> {
        let folder = tempfile::tempdir().map_err(io("making a folder for mosquitto"))?;
        let address = free_address()?;
        let config = folder.path().join("mosquitto.conf");
        let text = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\npersistence false\n\
             max_queued_messages 0\nmax_inflight_messages 0\nlog_type error\n",
            address.port()
        );
        fs::write(&config, text).map_err(io("writing mosquitto.conf"))?;
        let child = Command::new(program)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(io("starting mosquitto"))?;
        let started = Mosquitto { child, address, _folder: folder };
        started.wait()?;
        Ok(started)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait(&self) -> Result<(), BenchError> {
        let start = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if start.elapsed() > START_MAX {
                return Err(BenchError::Timeout { what: "mosquitto's start".to_owned(), limit: START_MAX });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing else to do here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// mosquitto 2.0 cannot tell which port it got, so one is chosen for it.
fn free_address() -> Result<SocketAddr, BenchError> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(io("finding a free port"))?;
    listener.local_addr().map_err(io("finding a free port"))
}
