//! Publishes that their device has numbered, by MQTT 5's user property `edgeway-seq`: read, judged, noted.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use devices::sequence::{MQTT_PROPERTY, Number, Sequence};

use crate::event_log::{EventLog, OpenCommit, Ticket};
use crate::ingest::{Arrivals, Ingest, Lanes, Verdict};
use crate::mqtt::codec::Properties;

/// Why a numbered publish was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotNumbered {
    #[error("user property {MQTT_PROPERTY} stands once and says lane, boot and sequence number, as in 1.17.42")]
    Malformed,
    #[error(
        "only a client that names itself, in up to 1,022 bytes without control characters, can number what it \
         publishes"
    )]
    NoDevice,
    #[error("its boot is before that of {last}, the lane's last number; does another device have this name?")]
    StaleBoot { last: Number },
    #[error("as many devices as [lanes] devices_max number their events; raise it, or wait until one is forgotten")]
    TooManyDevices,
    #[error("an earlier event of its lane was refused and is to be sent again first")]
    Behind,
}

/// What a connection numbers.
pub(super) struct Numbering {
    device: Arc<str>,
    /// Whether its name can be a device's.
    is_device: bool,
    arrivals: Arrivals,
}

impl Numbering {
    /// `names_itself`: the client id is the client's own and not one that the node made.
    pub(super) fn new(client_id: &Arc<str>, names_itself: bool) -> Self {
        let is_device = names_itself && Lanes::can_name(client_id);
        Self { device: Arc::clone(client_id), is_device, arrivals: Arrivals::default() }
    }

    /// The number that a publish carries, if any.
    pub(super) fn read(&self, ingest: &Ingest, properties: &Properties<'_>) -> Result<Option<Sequence>, NotNumbered> {
        if properties.is_empty() {
            return Ok(None);
        }
        let read = match sequence_of(properties) {
            Ok(Some(_)) if !self.is_device => Err(NotNumbered::NoDevice),
            read => read,
        };
        if read.is_err() {
            ingest.lanes().stats().malformed.fetch_add(1, Ordering::Relaxed);
        }
        read
    }

    /// Whether a publish was here before: then the commit that it waits for, or `None` where it is durable.
    pub(super) fn judge(
        &mut self,
        ingest: &Ingest,
        open: &OpenCommit<'_>,
        sequence: Sequence,
    ) -> Result<Judged, NotNumbered> {
        let log: &EventLog = ingest.log();
        if !self.arrivals.admit(sequence, |ticket| matches!(log.outcome(ticket), Some(Err(_)))) {
            ingest.lanes().stats().behind.fetch_add(1, Ordering::Relaxed);
            return Err(NotNumbered::Behind);
        }
        match ingest.lanes().judge(open, &self.device, sequence) {
            Verdict::New => Ok(Judged::New),
            Verdict::Duplicate(ticket) => Ok(Judged::Known(ticket)),
            Verdict::StaleBoot { last } => Err(NotNumbered::StaleBoot { last }),
            Verdict::TooManyDevices => Err(NotNumbered::TooManyDevices),
        }
    }

    /// A publish was appended: its number goes into the same commit.
    pub(super) fn appended(&mut self, ingest: &Ingest, open: &mut OpenCommit<'_>, sequence: Sequence) {
        ingest.lanes().advance(open, &self.device, sequence);
        self.arrivals.appended(sequence, open.ticket());
    }

    /// A publish was refused: for now, or for good.
    pub(super) fn refused(&mut self, sequence: Sequence, is_for_now: bool) {
        if is_for_now {
            self.arrivals.lost(sequence);
        } else {
            self.arrivals.gone(sequence);
        }
    }
}

/// What is to be done with a numbered publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    New,
    Known(Option<Ticket>),
}

fn sequence_of(properties: &Properties<'_>) -> Result<Option<Sequence>, NotNumbered> {
    let mut values = properties.user().filter(|(name, _)| *name == MQTT_PROPERTY).map(|(_, value)| value);
    let Some(value) = values.next() else { return Ok(None) };
    match (value.parse(), values.next()) {
        (Ok(sequence), None) => Ok(Some(sequence)),
        _ => Err(NotNumbered::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::codec::{PropertyBuffer, PropertyId, Value};

    #[test]
    fn a_publish_says_its_number_once_or_not_at_all() {
        // (user properties, what is read)
        type Read = Result<Option<&'static str>, NotNumbered>;
        let cases: [(&[(&str, &str)], Read); 6] = [
            (&[], Ok(None)),
            (&[("unit", "K")], Ok(None)),
            (&[("unit", "K"), (MQTT_PROPERTY, "1.17.42")], Ok(Some("1.17.42"))),
            (&[(MQTT_PROPERTY, "1.17.42"), (MQTT_PROPERTY, "1.17.42")], Err(NotNumbered::Malformed)),
            (&[(MQTT_PROPERTY, "3.1.1")], Err(NotNumbered::Malformed)),
            (&[(MQTT_PROPERTY, "")], Err(NotNumbered::Malformed)),
        ];
        for (user, expected) in cases {
            let mut buffer = PropertyBuffer::new();
            for (name, value) in user {
                buffer.put(PropertyId::UserProperty, Value::Pair(name, value)).unwrap();
            }
            let read = sequence_of(&buffer.view());
            assert_eq!(read, expected.map(|text| text.map(|text| text.parse().unwrap())), "{user:?}");
        }
    }
}
