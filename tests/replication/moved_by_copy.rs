//! A copy of a node's data folder that was let in for a while, and is gone again: the site finds the right one again.

use crate::harness::site::Site;
use crate::harness::wait;

#[test]
fn after_a_copy_was_let_in_and_stopped_the_right_node_is_found_where_it_is() {
    let mut site = Site::of(3);
    let right = 2;
    assert!(site.members[right].node.stop().success());
    let mut copy = site.copied(right);
    site.run(&[right]);
    site.wait_level();
    let name = site.members[right].name.clone();
    let address = || site.seen(0, &name)["address"].clone();
    let own = address();

    // The right one stands still, and its copy takes its place.
    site[right].freeze();
    copy.run();
    wait::until_true("the list has the copy's address", || address() != own);
    copy.kill();
    site[right].thaw();
    for place in [0, 1] {
        wait::until_true("it is heard again", || site.seen(place, &name)["connected"] == true);
    }
    wait::until_true("the list has its address again", || address() == own);
    site.wait_level();
}
