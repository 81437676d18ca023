//! Why a node closes a connection, and why it gives a stream up: numbers that both sides know.

use crate::transport::SiteConnection;

/// The code of a connection that is closed. Numbers are never used again for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Close {
    /// All was said.
    Done = 0,
    /// It shows no certificate, and does not join (closed so beneath this room).
    Nameless = 1,
    /// The node is not in the list that the closing one has.
    NotMember = 2,
    /// The node was in the list, and was taken out of it.
    Removed = 3,
    /// No protocol in common.
    Version = 4,
    /// Another process of the same node is connected; it may be the one before a restart.
    Contested = 5,
    /// Another process of the same node is connected and alive: a data folder was copied.
    Copied = 6,
    /// The node with the smaller id dials; it was told to.
    WrongWay = 7,
    /// What was sent cannot be read.
    Garbage = 8,
    /// Nothing was heard for too long.
    Silent = 9,
    /// The same process has connected anew.
    Replaced = 10,
    /// What was waited for did not come in time.
    Late = 11,
    /// There is no place right now.
    Busy = 12,
    /// The node stops.
    Stopping = 13,
    /// The node says that it is another than its certificate names.
    Impostor = 14,
}

impl Close {
    const ALL: [Self; 15] = [
        Self::Done,
        Self::Nameless,
        Self::NotMember,
        Self::Removed,
        Self::Version,
        Self::Contested,
        Self::Copied,
        Self::WrongWay,
        Self::Garbage,
        Self::Silent,
        Self::Replaced,
        Self::Late,
        Self::Busy,
        Self::Stopping,
        Self::Impostor,
    ];

    /// The reason with this number, if there is one.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|close| *close as u32 == number)
    }

    /// Closes a connection, with words for people.
    pub(in crate::replication) fn close(self, connection: &SiteConnection, text: &str) {
        connection.close(self as u32, text);
    }
}

/// The code of a stream that is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Reset {
    /// What was sent cannot be read.
    Garbage = 1,
    /// There is no place right now.
    Busy = 2,
    /// It is longer than is taken.
    TooLong = 3,
    /// The kind is not known.
    UnknownKind = 4,
    /// What was waited for did not come in time.
    Late = 5,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_their_places() {
        for (number, close) in (0..).zip(Close::ALL) {
            assert_eq!((close as u32, Close::from_number(number)), (number, Some(close)));
        }
        assert_eq!(Close::from_number(15), None);
    }
}
