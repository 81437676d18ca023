//! By which way a link goes: UDP as long as it answers, TCP where it does not, and back (pure).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::transport::Way;

/// How long a link stands by TCP until UDP is tried beside it; twice as long after each try that came to nothing.
const LOOK_AFTER: Duration = Duration::from_secs(15);
const LOOK_AFTER_MAX: Duration = Duration::from_secs(30 * 60);
/// A connection by UDP that fell silent sooner than this and brought nothing was let through for a moment only.
const LASTED_MIN: Duration = Duration::from_secs(5 * 60);
/// So many in a row that fell silent sooner than that are none that lasts, whatever they brought.
const SILENT_MAX: u32 = 3;
/// Fruitless tries that count.
const FRUITLESS_MAX: u32 = 16;

/// What people want.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// UDP where it comes through, else TCP.
    #[default]
    Auto,
    /// UDP alone.
    Quic,
    /// TCP alone.
    Tcp,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stood {
    /// By what it went.
    pub way: Way,
    /// How long it stood.
    pub lasted: Duration,
    /// Whether it brought anything over.
    pub brought: bool,
    /// Whether it ended as nothing was heard any more.
    pub is_silent: bool,
}

/// The way of one link, as it has gone so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ways {
    transport: Transport,
    /// UDP did not answer when TCP did.
    tcp_first: bool,
    /// How often UDP was tried beside TCP, or let through for a moment, in vain.
    fruitless: u32,
    /// How often in a row UDP fell silent soon.
    silent: u32,
}

impl Ways {
    /// Nothing is known yet.
    pub fn new(transport: Transport) -> Self {
        Self { transport, tcp_first: false, fruitless: 0, silent: 0 }
    }

    /// What to try, in this order.
    pub fn order(&self) -> &'static [Way] {
        match (self.transport, self.tcp_first) {
            (Transport::Quic, _) => &[Way::Quic],
            (Transport::Tcp, _) => &[Way::Tcp],
            (Transport::Auto, false) => &[Way::Quic, Way::Tcp],
            (Transport::Auto, true) => &[Way::Tcp, Way::Quic],
        }
    }

    /// A connection stands.
    pub fn stands(&mut self, way: Way) {
        self.tcp_first = way == Way::Tcp;
    }

    /// It is over.
    pub fn ended(&mut self, stood: Stood) {
        if stood.way != Way::Quic {
            return;
        }
        let is_short = stood.lasted < LASTED_MIN;
        self.silent = if stood.is_silent && is_short { (self.silent + 1).min(SILENT_MAX) } else { 0 };
        if stood.is_silent && is_short && (!stood.brought || self.silent == SILENT_MAX) {
            self.tcp_first = true;
            self.in_vain();
        } else if stood.brought || stood.lasted >= LASTED_MIN {
            self.fruitless = 0;
        }
    }

    /// How long a connection by this way stands until UDP is tried beside it; `None`: it is not.
    pub fn look_after(&self, way: Way) -> Option<Duration> {
        let looks = self.transport == Transport::Auto && way == Way::Tcp;
        looks.then(|| LOOK_AFTER.saturating_mul(1 << self.fruitless).min(LOOK_AFTER_MAX))
    }

    /// UDP was tried and did not answer.
    pub fn in_vain(&mut self) {
        self.fruitless = (self.fruitless + 1).min(FRUITLESS_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn stood(way: Way, lasted: Duration, brought: bool, is_silent: bool) -> Stood {
        Stood { way, lasted, brought, is_silent }
    }

    #[test]
    fn udp_goes_first_until_it_is_known_to_be_blocked() {
        let mut ways = Ways::new(Transport::Auto);
        assert_eq!((ways.order(), ways.look_after(Way::Quic)), (&[Way::Quic, Way::Tcp][..], None));
        ways.stands(Way::Tcp);
        assert_eq!(ways.order(), [Way::Tcp, Way::Quic]);
        // A cut by TCP changes nothing.
        ways.ended(stood(Way::Tcp, S, false, true));
        assert_eq!(ways.order(), [Way::Tcp, Way::Quic]);
        let mut waits = Vec::new();
        for _ in 0..20 {
            waits.push(ways.look_after(Way::Tcp).unwrap().as_secs());
            ways.in_vain();
        }
        assert_eq!((&waits[..8], waits[19]), (&[15, 30, 60, 120, 240, 480, 960, 1_800][..], 1_800));
        ways.stands(Way::Quic);
        assert_eq!(ways.order(), [Way::Quic, Way::Tcp]);
        assert_eq!(ways.look_after(Way::Tcp), Some(LOOK_AFTER_MAX), "until it has brought something");
        ways.ended(stood(Way::Quic, S, true, true));
        assert_eq!(ways.look_after(Way::Tcp), Some(LOOK_AFTER));
    }

    #[test]
    fn udp_that_is_let_through_for_a_moment_is_no_way() {
        // how it ended, whether TCP goes first then
        let cases = [
            (stood(Way::Quic, 30 * S, false, true), true),
            (stood(Way::Quic, 30 * S, true, true), false),
            (stood(Way::Quic, 30 * S, false, false), false),
            (stood(Way::Quic, 301 * S, false, true), false),
        ];
        for (ended, tcp_first) in cases {
            let mut ways = Ways::new(Transport::Auto);
            ways.stands(Way::Quic);
            ways.ended(ended);
            assert_eq!(ways.order()[0] == Way::Tcp, tcp_first, "{ended:?}");
            assert_eq!(ways.look_after(Way::Tcp), Some(if tcp_first { 30 * S } else { 15 * S }), "{ended:?}");
        }
    }

    #[test]
    fn udp_that_falls_silent_again_and_again_yields_whatever_it_brings() {
        let mut ways = Ways::new(Transport::Auto);
        for (lasted, tcp_first) in [(30, false), (30, false), (301, false), (30, false), (30, false), (30, true)] {
            ways.stands(Way::Quic);
            ways.ended(stood(Way::Quic, lasted * S, true, true));
            assert_eq!(ways.order()[0] == Way::Tcp, tcp_first, "{lasted}");
        }
        ways.stands(Way::Tcp);
        assert_eq!(ways.look_after(Way::Tcp), Some(30 * S), "it is looked for more seldom");
        // UDP is tried beside TCP, and is no better.
        ways.stands(Way::Quic);
        ways.ended(stood(Way::Quic, S, true, true));
        assert_eq!(ways.order(), [Way::Tcp, Way::Quic]);
        // It lasts.
        ways.stands(Way::Quic);
        ways.ended(stood(Way::Quic, 301 * S, true, false));
        assert_eq!((ways.order(), ways.look_after(Way::Tcp)), (&[Way::Quic, Way::Tcp][..], Some(15 * S)));
    }

    #[test]
    fn what_people_want_holds() {
        for (transport, way) in [(Transport::Quic, Way::Quic), (Transport::Tcp, Way::Tcp)] {
            let mut ways = Ways::new(transport);
            ways.stands(way);
            ways.ended(stood(way, S, false, true));
            assert_eq!((ways.order(), ways.look_after(way)), (&[way][..], None));
        }
    }
}
