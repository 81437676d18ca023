//! Bugs that are planted in the model, to prove that the invariants see them. None is in the product.

/// One mistake that an end of a link could make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Upstream says that it has stored what it has not synced.
    StoredBeforeSync,
    /// After a cut the edge goes on behind what it had sent, wherever upstream ends.
    GoesOnWhereItWas,
    /// Upstream takes what is not next, and counts what lies between as a gap.
    TakesWhatIsNotNext,
    /// The edge sends what is not synced there.
    SendsUnsynced,
    /// The edge goes on with a partition of which upstream has something else.
    ForkIsSent,
    /// The edge does not remember that upstream has something else, and goes on when nothing shows it any more.
    ForkIsForgotten,
    /// Upstream takes an origin that has been at its site.
    LoopIsTaken,
    /// What retention took is passed over without a word.
    GapNotTold,
    /// Retention waits for no link.
    RetentionWaitsForNone,
    /// What is too old to be sent is judged by a clock that is a day ahead.
    DropsWhatIsYoung,
    /// A node does not offer the site's other one what its link brings.
    KeptByOneNode,
    /// An edge is told that something is stored before both nodes have it.
    ToldBeforeQuorum,
    /// A reader that keeps a cursor passes an open hole, and never sees what fills it.
    PassesOpenHole,
    /// An open hole is taken to be smaller before what fills it is stored.
    FillIsNotAtomic,
    /// The edge lets go of what was missed, as what lies ahead of it is stored.
    CountsWhatIsAhead,
    /// The edge goes on where a part ahead was dropped, and counts it as stored.
    DropIsNotTold,
    /// Both ends pass over what their lists say of topics that come down.
    BringsWhatIsNotListed,
    /// After a cut upstream goes on down behind what it had sent, wherever the edge ends.
    GoesOnDownWhereItWas,
    /// What retention took upstream is passed over without a word on the way down.
    GapBelowNotTold,
}

impl Bug {
    /// Each, with the invariants of which one must see it.
    pub const ALL: [(Bug, &'static [&'static str]); 19] = [
        (Bug::StoredBeforeSync, &["acknowledged"]),
        (Bug::GoesOnWhereItWas, &["converges"]),
        (Bug::TakesWhatIsNotNext, &["acknowledged"]),
        (Bug::SendsUnsynced, &["lives"]),
        (Bug::ForkIsSent, &["order"]),
        (Bug::ForkIsForgotten, &["order"]),
        (Bug::LoopIsTaken, &["ring"]),
        (Bug::GapNotTold, &["gaps", "converges"]),
        (Bug::RetentionWaitsForNone, &["acknowledged"]),
        (Bug::DropsWhatIsYoung, &["deadline"]),
        (Bug::KeptByOneNode, &["nodes"]),
        (Bug::ToldBeforeQuorum, &["acknowledged"]),
        (Bug::PassesOpenHole, &["readers"]),
        (Bug::FillIsNotAtomic, &["acknowledged"]),
        (Bug::CountsWhatIsAhead, &["acknowledged"]),
        (Bug::DropIsNotTold, &["acknowledged"]),
        (Bug::BringsWhatIsNotListed, &["down"]),
        (Bug::GoesOnDownWhereItWas, &["down"]),
        (Bug::GapBelowNotTold, &["down"]),
    ];
}
