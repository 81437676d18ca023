//! Upstream's judgement of the certificates of links: until when they are good, when they are to be renewed (pure), and new ones.
//!
//! Upstream alone judges, by its own clock, which set the end as well: an edge may have no clock. A clock that is
//! plainly wrong judges nothing, and one that is wrong by days shuts nobody out.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::invite::Refusal;
use crate::clock::Clock;
use crate::transport::{LinkPeer, SiteError, SiteIdentity};

/// A clock before that stands wrong, seconds since 1970: the first of January 2026. So does none of those who judge signatures.
const CLOCK_MIN_S: u64 = 1_767_225_600;
/// What is left of a lifetime when a certificate is renewed: a third.
const LEFT_PART: u64 = 3;
/// By which part of a lifetime clocks may be wrong: a tenth, nine days of ninety.
const WRONG_PART: u64 = 10;
/// How long until it is asked again where nothing is to be done.
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(24 * 3_600);

/// What becomes of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is good; to be looked at again after this time.
    Good(Duration),
    /// It is to be renewed.
    Due,
    /// It ran out so long ago.
    Expired(Duration),
}

/// Judges a certificate that is good until `until`, `None`: for ever, where new ones are good for `lifetime`. All in seconds, `now` since 1970.
pub fn standing(now: u64, until: Option<u64>, lifetime: Option<u64>) -> Standing {
    let again = Standing::Good(LOOK_AGAIN_MAX);
    // What is good for ever stays so.
    let Some(until) = until.filter(|_| now >= CLOCK_MIN_S) else { return again };
    // Where people want no end any more, what has one gets none.
    let Some(lifetime) = lifetime else { return Standing::Due };
    let left = until.saturating_sub(now);
    let wrong = lifetime / WRONG_PART;
    if now > until.saturating_add(wrong) {
        return Standing::Expired(Duration::from_secs(now - until));
    }
    // One that is good for longer than any is made for bears the end of a wrong clock, or people want them shorter now.
    if left <= lifetime / LEFT_PART || left > lifetime + wrong {
        return Standing::Due;
    }
    Standing::Good(Duration::from_secs(left - lifetime / LEFT_PART).min(LOOK_AGAIN_MAX))
}

/// Certificates for links into this site.
#[derive(Debug, Clone)]
pub struct Certificates {
    clock: Arc<Clock>,
    identity: Arc<SiteIdentity>,
    /// Seconds for which new ones are good; `None`: for ever.
    lifetime: Option<u64>,
}

/// The certificate of one connection, and those that are given in its place.
#[derive(Debug)]
pub struct Shown {
    all: Certificates,
    peer: LinkPeer,
    /// Until when the newest one is good.
    until: Mutex<Option<u64>>,
}

/// A new certificate, in PEM form, and how long it is until it is due.
pub type Renewed = (String, Duration);

impl Certificates {
    /// New ones are good for so many seconds; 0: for ever.
    pub fn new(clock: Arc<Clock>, identity: Arc<SiteIdentity>, lifetime_s: u64) -> Self {
        Self { clock, identity, lifetime: (lifetime_s > 0).then_some(lifetime_s) }
    }

    /// That of a connection, which is good until then.
    pub fn shown(&self, peer: LinkPeer, until_s: Option<u64>) -> Arc<Shown> {
        Arc::new(Shown { all: self.clone(), peer, until: Mutex::new(until_s) })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.wall_ms() / 1_000).unwrap_or(0)
    }

    /// The end of one that is made now. A clock that stands wrong sets none.
    fn end(&self) -> Option<u64> {
        let now = self.now();
        self.lifetime.filter(|_| now >= CLOCK_MIN_S).map(|lifetime| now.saturating_add(lifetime))
    }

    /// A certificate and the CA's, in PEM form. One who cannot renew it gets it for ever.
    ///
    /// # Errors
    /// As those of [`SiteIdentity::admit_link`].
    pub fn give(
        &self,
        peer: LinkPeer,
        name: &str,
        public_key: &[u8],
        can_renew: bool,
    ) -> Result<(String, String), SiteError> {
        self.identity.admit_link(peer, name, public_key, self.end().filter(|_| can_renew))
    }
}

impl Shown {
    /// Until when the newest one is good, seconds since 1970; `None`: for ever.
    pub fn until_s(&self) -> Option<u64> {
        *self.until.lock()
    }

    /// What becomes of it.
    pub fn standing(&self) -> Standing {
        standing(self.all.now(), *self.until.lock(), self.all.lifetime)
    }

    /// In how many seconds the edge is to ask for a new one.
    pub fn due_s(&self) -> u64 {
        match self.standing() {
            Standing::Good(after) => after.as_secs(),
            Standing::Due | Standing::Expired(_) => 0,
        }
    }

    /// Whether its link may stand by it.
    ///
    /// # Errors
    /// The refusal.
    pub fn judge(&self) -> Result<(), Refusal> {
        let Standing::Expired(ago) = self.standing() else { return Ok(()) };
        let (days, now) = (ago.as_secs() / 86_400, self.all.now());
        let text = format!(
            "this gateway's certificate ran out {days} days ago by the clock here, which shows {}: where that is right, invite \
             the site again here (`edgeway link invite`), and at the gateway remove the link and accept the new token",
            date(now)
        );
        Err(Refusal::new("expired", text))
    }

    /// Gives a new one in its place, where it is due; `None` where it is not.
    ///
    /// # Errors
    /// When the public key is none, or the certificate cannot be made.
    pub fn renew(&self, name: &str, public_key: &[u8]) -> Result<Option<Renewed>, SiteError> {
        // One at a time: the second one finds it renewed.
        let mut until = self.until.lock();
        let all = &self.all;
        if standing(all.now(), *until, all.lifetime) != Standing::Due {
            return Ok(None);
        }
        let end = all.end();
        let (certificate, _) = all.identity.admit_link(self.peer, name, public_key, end)?;
        *until = end;
        let again = match standing(all.now(), end, all.lifetime) {
            Standing::Good(again) => again,
            _ => LOOK_AGAIN_MAX,
        };
        Ok(Some((certificate, again)))
    }
}

/// A day, for people.
fn date(seconds: u64) -> String {
    let second = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    second.map_or_else(|| "nothing that can be".to_owned(), |at| at.strftime("%Y-%m-%d").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;
    const NOW: u64 = CLOCK_MIN_S + 400 * DAY;

    #[test]
    fn when_a_certificate_is_renewed_and_when_it_has_run_out() {
        let good = |seconds| Standing::Good(Duration::from_secs(seconds));
        let in_days = |days: u64| Some(NOW + days * DAY);
        let ago = |days: u64| Some(NOW - days * DAY);
        let lifetime = Some(90 * DAY);
        // the case, the clock, until when it is good, for how long new ones are, what becomes of it
        let cases = [
            ("new", NOW, in_days(90), lifetime, good(DAY)),
            ("a day before it is due", NOW, Some(NOW + 30 * DAY + 600), lifetime, good(600)),
            ("a third is left", NOW, in_days(30), lifetime, Standing::Due),
            ("a day is left", NOW, in_days(1), lifetime, Standing::Due),
            ("run out within what clocks differ", NOW, ago(9), lifetime, Standing::Due),
            ("run out", NOW, ago(10), lifetime, Standing::Expired(Duration::from_secs(10 * DAY))),
            ("for ever", NOW, None, lifetime, good(DAY)),
            ("given by a clock that was days ahead", NOW, in_days(99), lifetime, good(DAY)),
            ("given by a clock that was years ahead", NOW, in_days(2_000), lifetime, Standing::Due),
            ("people want no end any more", NOW, in_days(60), None, Standing::Due),
            ("for ever, and so it shall be", NOW, None, None, good(DAY)),
            ("no clock here", 1_000, in_days(10), lifetime, good(DAY)),
            ("no clock here, and it ran out", CLOCK_MIN_S - 1, Some(5), lifetime, good(DAY)),
            ("the clock here is years ahead", NOW * 2, in_days(60), lifetime, {
                Standing::Expired(Duration::from_secs(NOW - 60 * DAY))
            }),
            ("the clock here is days behind", NOW - 8 * DAY, in_days(90), lifetime, good(DAY)),
        ];
        for (case, now, until, lifetime, expected) in cases {
            assert_eq!(standing(now, until, lifetime), expected, "{case}");
        }
    }

    #[test]
    fn a_new_one_is_given_once_and_is_good_for_its_lifetime() {
        let folder = tempfile::tempdir().unwrap();
        let site = crate::transport::NodeId(1);
        let identity = Arc::new(SiteIdentity::init(&folder.path().join("site"), 5, site, "n1").unwrap());
        let all = Certificates::new(Arc::new(Clock::starting_after(0)), identity, 90 * DAY);
        let peer = LinkPeer { node: crate::transport::NodeId(7), link: 9 };
        let key = crate::transport::NodeKey::draw().unwrap();
        let now = all.now();
        let shown = all.shown(peer, Some(now + DAY));
        assert_eq!((shown.standing(), shown.judge()), (Standing::Due, Ok(())));
        assert!(shown.renew("plant", b"no key").is_err());
        let (_, again) = shown.renew("plant", key.public()).unwrap().unwrap();
        assert_eq!(again, LOOK_AGAIN_MAX);
        assert_eq!(shown.renew("plant", key.public()).unwrap(), None, "it is not due any more");
        let text = all.shown(peer, Some(now - 40 * DAY)).judge().unwrap_err().text;
        assert!(text.contains("40 days ago") && text.contains("edgeway link invite"), "{text}");
    }
}
