//! Bugs that are planted in the model, to prove that the invariants see them. None is in the product.

/// One mistake that a node, a session or a device could make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Commands are handed to sessions before the commit that says so is durable.
    OffersBeforeDurable,
    /// A restart does not read that a command was sent.
    ReplayForgetsSent,
    /// What must not be repeated is sent again after a lost connection.
    NeverIsResent,
    /// What has ended is handed to the next session.
    EndedIsOffered,
    /// A command that was written is reported as one that never was.
    WrittenIsUnsent,
    /// Anybody's answer counts.
    AnyRecipient,
    /// A newer set-point takes the place of those that wait, and not of those that come back.
    SupersedeMissesReturned,
    /// A device that should remember what it did does it again.
    DeviceRepeats,
    /// A full session takes what is behind the command that it did not take.
    FullSessionTakesOn,
    /// A session does not look at the clock before it writes.
    SessionIgnoresExpiry,
    /// A session writes what is urgent last.
    UrgentLast,
    /// The cursor moves past steps of commands that are not stored.
    CursorRunsAhead,
    /// A source is told that its command is safe before it is.
    PromisedBeforeDurable,
    /// A step that ends a command is not appended.
    OutcomeNotAppended,
    /// A command that was refused by the guards goes all the same.
    DeniedIsSent,
    /// The clock of commands stands still.
    NoTick,
    /// A session that came in the middle of a round gets commands before the last words of its predecessor are heard.
    SuccessorBeforeNews,
    /// A predecessor stays in its session's mailbox when its urgent successor comes.
    NothingIsWithdrawn,
}

impl Bug {
    /// Each, with the invariants of which one must see it.
    pub const ALL: [(Bug, &'static [&'static str]); 18] = [
        (Bug::OffersBeforeDurable, &["not_done"]),
        (Bug::ReplayForgetsSent, &["at_most_once", "not_done"]),
        (Bug::NeverIsResent, &["at_most_once"]),
        (Bug::EndedIsOffered, &["not_done"]),
        (Bug::WrittenIsUnsent, &["at_most_once"]),
        (Bug::AnyRecipient, &["answers_count"]),
        (Bug::SupersedeMissesReturned, &["supersede"]),
        (Bug::DeviceRepeats, &["at_most_once"]),
        (Bug::FullSessionTakesOn, &["order"]),
        (Bug::SessionIgnoresExpiry, &["handed_in_time"]),
        (Bug::UrgentLast, &["urgent_first"]),
        (Bug::CursorRunsAhead, &["nothing_lost", "outcome_stays"]),
        (Bug::PromisedBeforeDurable, &["nothing_lost"]),
        (Bug::OutcomeNotAppended, &["one_outcome", "outcome_stays"]),
        (Bug::DeniedIsSent, &["not_done"]),
        (Bug::NoTick, &["converges"]),
        (Bug::SuccessorBeforeNews, &["order"]),
        (Bug::NothingIsWithdrawn, &["supersede"]),
    ];
}
