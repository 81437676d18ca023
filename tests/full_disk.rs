//! A full disk: clients are told, the node stays up and goes on when there is room.

use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::harness::http;
use crate::harness::mqtt::{Client, Message, Version};
use crate::harness::noise::noise;
use crate::harness::skip::skipped;
use crate::harness::{Node, wait};

/// A file system of its own in memory, unmounted at the end.
pub struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    /// `None` where nothing can be mounted.
    pub fn mount(at: &'a Path, size: &str) -> Option<Disk<'a>> {
        let options = std::ffi::CString::new(format!("size={size}")).unwrap();
        mount("tmpfs", at, "tmpfs", MountFlags::empty(), Some(options.as_c_str())).ok()?;
        Some(Disk(at))
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = unmount(self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("disk");
    std::fs::create_dir(&place).unwrap();
    let Some(disk) = Disk::mount(&place, "256m") else {
        skipped("a_full_disk_refuses_and_recovers", "a small file system cannot be mounted here");
        return;
    };
    let ballast = place.join("ballast");
    let node = Node::start_in(tempfile::tempdir().unwrap(), place.join("data"), "");
    let mut modern = Client::simple(node.mqtt, Version::V5, "modern");
    assert_eq!(modern.publish(&Message::new("disk/a", "before").qos(1)), 0);

    fill(&ballast);
    let mut acknowledged = 1;
    let refusal = wait::until("a refusal", || match modern.publish(&Message::new("disk/a", noise()).qos(1)) {
        0 => {
            acknowledged += 1;
            None
        }
        code => Some(code),
    });
    assert_eq!(refusal, 0x97, "quota exceeded");
    assert!(node.is_healthy(), "alive while full");
    let ready = http::get(node.http, "/readyz", None).unwrap();
    assert!(ready.status == 503 && ready.body.contains("reserve_bytes keeps 64.0 MiB free"), "{ready:?}");
    let told = node.cli(&["publish", "mqtt", "-v", "x"]);
    assert!(told.err.contains("reserve_bytes") && !told.err.contains("full: the store"), "{told:?}");
    assert!(told.err.contains("(store_full)"), "the word of docs/troubles.md: {told:?}");
    assert!(node.cli(&["status"]).ok().out.contains("store: full: "), "people are told");
    assert!(node.cli(&["node", "status"]).ok().out.contains("store-full: "), "people are told");
    let mut old = Client::simple(node.mqtt, Version::V3, "old");
    let mut message = Message::new("disk/b", noise()).qos(1);
    message.id = 1;
    old.send(&message.encode(Version::V3));
    assert_eq!(old.closed(), None, "3.1.1 has no word for it");

    std::fs::remove_file(&ballast).unwrap();
    wait::until_true("room", || modern.publish(&Message::new("disk/a", "after").qos(1)) == 0);
    let ready = http::get(node.http, "/readyz", None).unwrap();
    assert_eq!(ready.status, 200, "{ready:?}");
    assert!(!node.cli(&["node", "status"]).ok().out.contains("store-full"), "it is mended");
    let events = node.events("mqtt");
    assert_eq!(events.len(), acknowledged + 1, "what was refused is not there");
    assert_eq!(events.last().unwrap().text(), "after");
    drop(node);
    drop(disk);
}

/// Takes all the room there is.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).unwrap();
    let block = vec![0; 1 << 20];
    while file.write_all(&block).is_ok() {}
    while file.write_all(&[0; 512]).is_ok() {}
}
