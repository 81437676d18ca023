//! Upstream's judgement of the certificates of links: until when they are good, when they are to be renewed (pure), and new ones.
//!
//! Upstream alone judges, by its own clock, which set the end as well: an edge may have no clock. A clock that is
//! plainly wrong judges nothing, and one that is wrong by days shuts nobody out. One that has gone back, as without a battery, gives
//! none that ends before the one that was shown.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// Between two that are given on one connection; of short lifetimes a thirtieth.
const GIVEN_APART_MAX: Duration = Duration::from_secs(300);
const GIVEN_APART_PART: u64 = 30;

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

/// What time it is, seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// By the wall clock.
    pub wall: u64,
    /// By the wall clock, and no sooner than the newest event here: the wall clock may have gone back.
    pub newest: u64,
}

/// Judges a certificate that is good until `until`, `None`: for ever, where new ones are good for `lifetime`. All in seconds.
///
/// When one is renewed is judged by the newest time: too early does no harm. That one has run out is judged by the wall clock alone: stamps of
/// events that were once ahead by years stay so, and would shut out all for ever.
pub fn standing(now: Now, until: Option<u64>, lifetime: Option<u64>) -> Standing {
    let again = Standing::Good(LOOK_AGAIN_MAX);
    // What is good for ever stays so.
    let Some(until) = until.filter(|_| now.newest >= CLOCK_MIN_S) else { return again };
    // Where people want no end any more, what has one gets none.
    let Some(lifetime) = lifetime else { return Standing::Due };
    if now.wall >= CLOCK_MIN_S && now.wall > until.saturating_add(lifetime / WRONG_PART) {
        return Standing::Expired(Duration::from_secs(now.wall - until));
    }
    let left = until.saturating_sub(now.newest);
    if left <= lifetime / LEFT_PART {
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
    /// Until when it is good.
    until: Option<u64>,
    /// When a newer one was given last, as time since the start. Whether the edge has stored that is not known: it is given again.
    given_at: Mutex<Option<Duration>>,
    /// Its gateway has shown a newer one before: it is not renewed.
    is_older: AtomicBool,
}

/// A new certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// It, in PEM form.
    pub certificate: String,
    /// Until when it is good, seconds since 1970.
    pub until_s: Option<u64>,
    /// How long until it is due.
    pub due: Duration,
}

impl Certificates {
    /// New ones are good for so many seconds; 0: for ever.
    pub fn new(clock: Arc<Clock>, identity: Arc<SiteIdentity>, lifetime_s: u64) -> Self {
        Self { clock, identity, lifetime: (lifetime_s > 0).then_some(lifetime_s) }
    }

    /// That of a connection, which is good until then.
    pub fn shown(&self, peer: LinkPeer, until_s: Option<u64>) -> Arc<Shown> {
        Arc::new(Shown {
            all: self.clone(),
            peer,
            until: until_s,
            given_at: Mutex::default(),
            is_older: AtomicBool::new(false),
        })
    }

    fn now(&self) -> Now {
        let seconds = |ms: i64| u64::try_from(ms / 1_000).unwrap_or(0);
        Now { wall: seconds(self.clock.wall_ms()), newest: seconds(self.clock.newest_ms()) }
    }

    /// The end of one that is made now. A clock that stands wrong sets none.
    fn end(&self) -> Option<u64> {
        let now = self.now().newest;
        self.lifetime.filter(|_| now >= CLOCK_MIN_S).map(|lifetime| now.saturating_add(lifetime))
    }

    /// Between two that are given on one connection.
    fn given_apart(&self) -> Duration {
        let part = self.lifetime.map(|lifetime| Duration::from_secs(lifetime / GIVEN_APART_PART));
        part.map_or(GIVEN_APART_MAX, |part| part.min(GIVEN_APART_MAX))
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
    /// Notes that its gateway has shown a newer one before: this one is not renewed.
    pub fn set_older(&self) {
        self.is_older.store(true, Ordering::Relaxed);
    }

    /// What becomes of it.
    pub fn standing(&self) -> Standing {
        standing(self.all.now(), self.until, self.all.lifetime)
    }

    /// Whether its link may stand by it.
    ///
    /// # Errors
    /// The refusal.
    pub fn judge(&self) -> Result<(), Refusal> {
        let Standing::Expired(ago) = self.standing() else { return Ok(()) };
        let (days, now) = (ago.as_secs() / 86_400, self.all.now().wall);
        let text = format!(
            "this gateway's certificate ran out {days} days ago by the clock here, which shows {}: where that is right, invite \
             the site again here (`edgeway link invite`), and at the gateway remove the link and accept the new token",
            date(now)
        );
        Err(Refusal::new("expired", text))
    }

    /// How long until the edge is to ask for a new one.
    pub fn due(&self) -> Duration {
        let standing = match self.standing() {
            _ if self.is_older.load(Ordering::Relaxed) => LOOK_AGAIN_MAX,
            Standing::Good(after) => after,
            Standing::Due | Standing::Expired(_) => Duration::ZERO,
        };
        standing.max(self.wait(*self.given_at.lock()))
    }

    /// How long none is given, as one was given just now.
    fn wait(&self, given_at: Option<Duration>) -> Duration {
        let since = given_at.map(|at| self.all.clock.monotonic().saturating_sub(at));
        since.map_or(Duration::ZERO, |since| self.all.given_apart().saturating_sub(since))
    }

    /// Gives a new one in its place, where it is due; `None` where it is not. One that has run out since its connection was greeted is
    /// renewed as well: it was good then.
    ///
    /// # Errors
    /// When the public key is none, or the certificate cannot be made.
    pub fn renew(&self, name: &str, public_key: &[u8]) -> Result<Option<Renewed>, SiteError> {
        let all = &self.all;
        // One at a time.
        let mut given_at = self.given_at.lock();
        let until_s = all.end();
        let is_due = !matches!(self.standing(), Standing::Good(_)) && self.wait(*given_at).is_zero();
        if !is_due || self.is_older.load(Ordering::Relaxed) || is_before(until_s, self.until) {
            return Ok(None);
        }
        let (certificate, _) = all.identity.admit_link(self.peer, name, public_key, until_s)?;
        *given_at = Some(all.clock.monotonic());
        let due = match standing(all.now(), until_s, all.lifetime) {
            Standing::Good(due) => due,
            _ => LOOK_AGAIN_MAX,
        };
        Ok(Some(Renewed { certificate, until_s, due }))
    }
}

/// Whether a certificate ends before another one; `None`: never.
fn is_before(until: Option<u64>, other: Option<u64>) -> bool {
    until.is_some_and(|until| other.is_none_or(|other| until < other))
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
            ("given by a clock that was years ahead", NOW, in_days(2_000), lifetime, good(DAY)),
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
            assert_eq!(standing(Now { wall: now, newest: now }, until, lifetime), expected, "{case}");
        }
        // The wall clock has gone back, or events are stamped ahead: who is due is renewed, and nobody has run out.
        for wall in [1_000, CLOCK_MIN_S, NOW - 100 * DAY, NOW - 10 * DAY] {
            let now = Now { wall, newest: NOW };
            assert_eq!(standing(now, in_days(90), lifetime), good(DAY), "{wall}");
            assert_eq!(standing(now, in_days(30), lifetime), Standing::Due, "{wall}");
            assert_eq!(standing(now, Some(NOW - 9 * DAY), lifetime), Standing::Due, "{wall}");
        }
    }

    /// Certificates of a site by a clock whose newest stamp is this many seconds ahead of the wall clock.
    fn certificates(folder: &std::path::Path, ahead_s: u64) -> Certificates {
        let site = crate::transport::NodeId(1);
        let identity = Arc::new(SiteIdentity::init(&folder.join("site"), 5, site, "n1").unwrap());
        let wall_ms = u64::try_from(Clock::starting_after(0).wall_ms()).unwrap();
        let clock = Clock::starting_after((wall_ms + ahead_s * 1_000) << sled_data::HLC_LOGICAL_BITS);
        Certificates::new(Arc::new(clock), identity, 90 * DAY)
    }

    #[test]
    fn a_clock_that_has_gone_back_gives_none_that_ends_sooner() {
        for ahead_s in [0, 200 * DAY] {
            let folder = tempfile::tempdir().unwrap();
            let all = certificates(folder.path(), ahead_s);
            let peer = LinkPeer { node: crate::transport::NodeId(7), link: 9 };
            let key = crate::transport::NodeKey::draw().unwrap();
            let true_now = all.now().wall + 200 * DAY;
            // It was given when the clock was right. Stamps tell what is due, or nothing does.
            for left in [1, 20, 60, 90] {
                let until = true_now + left * DAY;
                let shown = all.shown(peer, Some(until));
                assert_eq!(shown.judge(), Ok(()));
                match shown.renew("plant", key.public()).unwrap() {
                    Some(renewed) => assert!(ahead_s > 0 && left <= 30 && renewed.until_s >= Some(until)),
                    None => assert!(ahead_s == 0 || left > 30, "{left} days are left"),
                }
            }
        }
    }

    #[test]
    fn a_new_one_is_given_again_where_it_may_be_lost() {
        let folder = tempfile::tempdir().unwrap();
        let all = certificates(folder.path(), 0);
        let peer = LinkPeer { node: crate::transport::NodeId(7), link: 9 };
        let key = crate::transport::NodeKey::draw().unwrap();
        let now = all.now().wall;
        let shown = all.shown(peer, Some(now + DAY));
        assert_eq!((shown.standing(), shown.judge(), shown.due()), (Standing::Due, Ok(()), Duration::ZERO));
        assert!(shown.renew("plant", b"no key").is_err());
        let renewed = shown.renew("plant", key.public()).unwrap().unwrap();
        assert_eq!(renewed.due, LOOK_AGAIN_MAX);
        assert!(renewed.until_s >= Some(now + 90 * DAY));
        assert_eq!(shown.renew("plant", key.public()).unwrap(), None, "a moment ago one was given");
        assert!(shown.due() > Duration::from_secs(200) && shown.due() <= GIVEN_APART_MAX);
        // The edge could not store it, and asks again.
        let all_of_short = Certificates { lifetime: Some(20), ..all.clone() };
        let short = all_of_short.shown(peer, Some(now + 5));
        for _ in 0..3 {
            assert!(short.renew("plant", key.public()).unwrap().is_some());
        }
        // One that ran out while its connection stood.
        let expired = all.shown(peer, Some(now - 40 * DAY));
        assert!(expired.renew("plant", key.public()).unwrap().is_some());
        let older = all.shown(peer, Some(now + DAY));
        older.set_older();
        assert_eq!((older.renew("plant", key.public()).unwrap(), older.due()), (None, LOOK_AGAIN_MAX));
        let text = expired.judge().unwrap_err().text;
        assert!(text.contains("40 days ago") && text.contains("edgeway link invite"), "{text}");
    }
}
