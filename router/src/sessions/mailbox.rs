//! A session's mailbox: bounded, rung by a wake; commands and orders to the session itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use devices::command::{ANSWER_PREFIX, COMMAND_PREFIX};
use parking_lot::Mutex;

use crate::event_log::Wake;

/// Offers that may wait in one session's mailbox, and as many urgent ones.
const OFFERS_MAX: usize = 256;

/// How an offered message fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It was given to the connection: from now on any of its bytes may leave.
    Sent,
    /// The client acknowledged it.
    Acked,
    /// The connection ended before an acknowledgement; the client may or may not have it.
    Dropped,
    /// It is larger than the client takes: the last word.
    TooLarge,
}

/// On which terms a command comes: what is shipped with it besides topic and payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The command's id.
    pub id: [u8; 16],
    /// Until when it may be begun, in milliseconds since 1970.
    pub deliver_by_ms: u64,
    /// How long it may take, in milliseconds.
    pub execution_timeout_ms: u64,
    /// How often it has been sent, from 1.
    pub attempt: u32,
    /// It is sent once at most.
    pub never_repeat: bool,
}

impl Terms {
    /// Names and values, as MQTT 5 ships them in user properties.
    pub fn properties(&self, urgent: bool) -> Vec<(&'static str, String)> {
        let mut user = vec![
            ("deliver-by", self.deliver_by_ms.to_string()),
            ("execution-timeout", self.execution_timeout_ms.to_string()),
            ("attempt", self.attempt.to_string()),
        ];
        if urgent {
            user.push(("urgent", "1".to_owned()));
        }
        if self.never_repeat {
            user.push(("repeat", "never".to_owned()));
        }
        user
    }
}

/// An offer whose time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired;

/// A message for the client of one session, outside its subscriptions' queues.
pub struct Offer {
    /// The MQTT topic.
    pub topic: Arc<str>,
    /// The payload.
    pub payload: Arc<[u8]>,
    /// When it is worthless: it is not sent after that, and the time left is shipped.
    pub expires: Option<Instant>,
    /// It overtakes what waits and is not urgent.
    pub urgent: bool,
    /// On which terms it comes, where it is a command.
    pub terms: Option<Terms>,
    done: Option<Box<dyn FnMut(Delivery) + Send>>,
}

impl Offer {
    /// A message with nothing but topic and payload. `done` is told how it fares: `Sent` first where it is
    /// given to the connection, then `Acked` or `Dropped`, which is the last word. It must not block.
    pub fn new(topic: Arc<str>, payload: Arc<[u8]>, done: impl FnMut(Delivery) + Send + 'static) -> Self {
        let done: Option<Box<dyn FnMut(Delivery) + Send>> = Some(Box::new(done));
        Self { topic, payload, expires: None, urgent: false, terms: None, done }
    }

    /// Names and values that go with a command.
    pub fn properties(&self) -> Vec<(&'static str, String)> {
        self.terms.map(|terms| terms.properties(self.urgent)).unwrap_or_default()
    }

    /// Where the answer to a command is expected: its topic with another beginning, and without its name.
    pub fn response_topic(&self) -> Option<String> {
        let rest = self.topic.strip_prefix(COMMAND_PREFIX).filter(|_| self.terms.is_some())?;
        rest.rsplit_once('/').map(|(rest, _)| format!("{ANSWER_PREFIX}{rest}"))
    }

    /// Whether it is a command, whose end somebody waits for.
    pub fn is_command(&self) -> bool {
        self.topic.starts_with(COMMAND_PREFIX)
    }

    /// Whole seconds until it is worthless, at least one; `Err` where it is.
    ///
    /// # Errors
    /// When its time is over: it must not be sent.
    pub fn expiry_left_s(&self, now: Instant) -> Result<Option<u32>, Expired> {
        Ok(self.expiry_left_ms(now)?.map(|ms| u32::try_from(ms / 1_000).unwrap_or(u32::MAX).max(1)))
    }

    /// The same in milliseconds.
    ///
    /// # Errors
    /// When its time is over: it must not be sent.
    pub fn expiry_left_ms(&self, now: Instant) -> Result<Option<u64>, Expired> {
        let Some(expires) = self.expires else { return Ok(None) };
        let left = expires.checked_duration_since(now).filter(|left| left.as_millis() > 0).ok_or(Expired)?;
        Ok(Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)))
    }

    /// It was given to the connection; to be said before any of its bytes can leave.
    pub fn sent(&mut self) {
        if let Some(done) = &mut self.done {
            done(Delivery::Sent);
        }
    }

    /// It is larger than the client takes, and was not written.
    pub fn too_large(mut self) {
        if let Some(mut done) = self.done.take() {
            done(Delivery::TooLarge);
        }
    }

    /// The client acknowledged it.
    pub fn acked(mut self) {
        if let Some(mut done) = self.done.take() {
            done(Delivery::Acked);
        }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        if let Some(mut done) = self.done.take() {
            done(Delivery::Dropped);
        }
    }
}

/// An order to a session's task: say so to the client, and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Another connection has taken the client id.
    TakenOver {
        /// Whether the new connection begins a new session.
        clean_start: bool,
    },
    /// People have removed the device, and only enrolled ones may be connected.
    Removed,
    /// The node stops.
    Stop,
    /// The node leaves its site: its clients find another one.
    Leave,
}

/// One connection's box; its task empties it.
pub struct Mailbox {
    wake: Arc<Wake>,
    mail: Mutex<Mail>,
}

#[derive(Default)]
struct Mail {
    order: Option<Order>,
    offers: VecDeque<Offer>,
    urgent: VecDeque<Offer>,
    is_closed: bool,
    takes_no_commands: bool,
}

impl Mail {
    fn takes(&self, mqtt_topic: &str) -> bool {
        !self.takes_no_commands || !mqtt_topic.starts_with(COMMAND_PREFIX)
    }
}

impl Mailbox {
    /// An empty one that rings `wake`.
    pub fn new(wake: Arc<Wake>) -> Self {
        Self { wake, mail: Mutex::default() }
    }

    /// Puts an offer in, or gives it back when the box is full or its connection has ended.
    ///
    /// # Errors
    /// The offer itself.
    pub fn offer(&self, offer: Offer) -> Result<(), Box<Offer>> {
        let mut mail = self.mail.lock();
        let waiting = if offer.urgent { mail.urgent.len() } else { mail.offers.len() };
        if mail.is_closed || !mail.takes(&offer.topic) || waiting >= OFFERS_MAX {
            drop(mail);
            return Err(Box::new(offer));
        }
        if offer.urgent { &mut mail.urgent } else { &mut mail.offers }.push_back(offer);
        drop(mail);
        self.wake.ring(Wake::MAIL);
        Ok(())
    }

    /// Takes a command back that still waits; it is told that nobody sends it.
    pub fn withdraw(&self, command: &[u8; 16]) {
        let mut mail = self.mail.lock();
        let Mail { offers, urgent, .. } = &mut *mail;
        let withdrawn = [offers, urgent].map(|lane| {
            let is_it = |offer: &Offer| offer.terms.is_some_and(|terms| terms.id == *command);
            let place = lane.iter().position(is_it);
            place.and_then(|place| lane.remove(place))
        });
        drop(mail);
        drop(withdrawn);
    }

    /// Offers that there is room for, the urgent ones last; none where it is closed.
    pub fn room(&self) -> [usize; 2] {
        let mail = self.mail.lock();
        if mail.is_closed {
            return [0, 0];
        }
        [mail.offers.len(), mail.urgent.len()].map(|waiting| OFFERS_MAX.saturating_sub(waiting))
    }

    /// Its client takes no commands, whatever it subscribes to.
    pub fn take_no_commands(&self) {
        self.mail.lock().takes_no_commands = true;
    }

    /// Whether its client takes what is offered under an MQTT topic.
    pub fn takes(&self, mqtt_topic: &str) -> bool {
        self.mail.lock().takes(mqtt_topic)
    }

    /// Gives an order; the first one counts.
    pub fn order(&self, order: Order) {
        self.mail.lock().order.get_or_insert(order);
        self.wake.ring(Wake::MAIL);
    }

    /// Closes it with its connection; offers that nobody will send are told so.
    pub fn close(&self) {
        let mut mail = self.mail.lock();
        mail.is_closed = true;
        let offers = (std::mem::take(&mut mail.urgent), std::mem::take(&mut mail.offers));
        drop(mail);
        drop(offers);
    }

    /// The order, if one was given.
    pub fn take_order(&self) -> Option<Order> {
        self.mail.lock().order.take()
    }

    /// Takes the oldest offer, an urgent one first.
    pub fn take_offer(&self) -> Option<Offer> {
        let mut mail = self.mail.lock();
        mail.urgent.pop_front().or_else(|| mail.offers.pop_front())
    }

    /// Takes the oldest offer whose MQTT topic is of a kind, for doors that have a way for each kind.
    pub fn take_offer_of(&self, is_of: impl Fn(&str) -> bool) -> Option<Offer> {
        let mut mail = self.mail.lock();
        let mail = &mut *mail;
        let take = |offers: &mut VecDeque<Offer>| {
            let at = offers.iter().position(|offer| is_of(&offer.topic))?;
            offers.remove(at)
        };
        take(&mut mail.urgent).or_else(|| take(&mut mail.offers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(number: u8) -> Terms {
        Terms { id: [number; 16], deliver_by_ms: 1, execution_timeout_ms: 2, attempt: 1, never_repeat: false }
    }

    #[test]
    fn what_is_taken_back_is_not_sent_and_told_so() {
        let mailbox = Mailbox::new(Arc::default());
        let told = Arc::new(Mutex::new(Vec::new()));
        for number in 0..3u8 {
            let told = Arc::clone(&told);
            let mut offer = Offer::new("t".into(), b"".as_slice().into(), move |fate| told.lock().push((number, fate)));
            offer.terms = Some(terms(number));
            offer.urgent = number == 2;
            assert!(mailbox.offer(offer).is_ok());
        }
        for taken_back in [1, 2, 9] {
            mailbox.withdraw(&[taken_back; 16]);
        }
        assert_eq!(*told.lock(), [(1, Delivery::Dropped), (2, Delivery::Dropped)]);
        assert!(mailbox.take_offer().is_some_and(|offer| offer.terms == Some(terms(0))));
        assert!(mailbox.take_offer().is_none());
    }
}
