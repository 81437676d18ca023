//! SIGKILL of any node under load, again and again: what was acknowledged is on every node, once, in order.

use super::load::{Load, check, check_stores, make_topics};
use crate::harness::mqtt::publisher::Record;
use crate::harness::site::Site;

/// Rounds of load, in each of which one node dies.
const ROUNDS: u64 = 6;

/// A number below `bound`, by seed (SplitMix64).
fn below(random: &mut u64, bound: u64) -> u64 {
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *random;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % bound
}

#[test]
fn any_node_may_die_under_load() {
    let mut random = 20_261_126;
    println!("seed {random}");
    let mut site = Site::of(3);
    make_topics(&site);
    let mut records: Vec<Record> = Vec::new();
    for round in 0..ROUNDS {
        // Each dies twice; who is next is the seed's, and so is when.
        let dies = ((round + below(&mut random, 2) * 3) % 3) as usize;
        let load = Load::start(&site, &round.to_string());
        load.wait(200 + below(&mut random, 400));
        site.kill(&[dies]);
        // The others go on, quorum or not.
        load.wait(200 + below(&mut random, 200));
        if below(&mut random, 2) == 0 {
            site.run(&[dies]);
            load.wait(200);
        }
        records.extend(load.stop());
        if !site[dies].is_started() {
            site.run(&[dies]);
        }
        site.wait_level();
        check(&site, &records);
    }
    let acked: u64 = records.iter().map(|record| record.acked).sum();
    assert!(acked > ROUNDS * 400, "hardly anything was acknowledged: {acked}");
    check_stores(&mut site);
}
