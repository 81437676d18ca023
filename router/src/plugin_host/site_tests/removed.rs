//! Plugins that were removed: other nodes of the site keep nothing of where they stood.

use super::lab::{Lab, PLUGIN};
use crate::plugin_host::forget::forget_removed;
use crate::plugin_host::registry::PLUGINS_TREE;
use crate::plugin_host::round::reader_name;

const A: usize = 0;
const B: usize = 1;

#[test]
fn other_nodes_forget_where_a_plugin_stood_that_was_removed() {
    let mut lab = Lab::new(2, "origin");
    lab.publish_new(A, 4);
    let life = lab.life(A);
    let set = |lab: &Lab, record: Option<&[u8]>| {
        let ticket = {
            let mut open = lab.nodes[A].log.lock();
            open.put_state(PLUGINS_TREE, PLUGIN.as_bytes(), record);
            open.ticket()
        };
        lab.nodes[A].log.durable_blocking(ticket).unwrap();
    };
    set(&lab, Some(b"as it is stored"));
    lab.work(A);
    lab.carry(life, A, B, usize::MAX);
    let known = |lab: &Lab, node: usize| {
        let cursors = lab.nodes[node].log.store().cursors_of(life, &reader_name(PLUGIN)).unwrap();
        cursors.into_iter().map(|(_, next)| next).collect::<Vec<u64>>()
    };
    forget_removed(&lab.nodes[A].log).unwrap();
    forget_removed(&lab.nodes[B].log).unwrap();
    assert_eq!((known(&lab, A), known(&lab, B)), (vec![4], vec![4]), "it is there");
    set(&lab, None);
    forget_removed(&lab.nodes[A].log).unwrap();
    assert!(known(&lab, A).is_empty());
    forget_removed(&lab.nodes[B].log).unwrap();
    assert_eq!(known(&lab, B), [4], "B does not know yet that it was removed");
    // What A has done since comes with what it says of the plugin.
    lab.carry(life, A, B, usize::MAX);
    assert_eq!(known(&lab, B), [0]);
    forget_removed(&lab.nodes[B].log).unwrap();
    assert!(known(&lab, B).is_empty());
}
