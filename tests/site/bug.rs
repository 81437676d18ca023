//! Bugs that are planted in the model, to prove that the invariants see them. None is in the product.

/// One mistake that a node could make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// An event is acknowledged before its commit is synced.
    AckBeforeSync,
    /// Commits are sent that are not synced at their source.
    ShipsUnsynced,
    /// A follower says that it has synced what it has only written.
    ClaimsUnsynced,
    /// What a follower says it has when it begins counts as synced.
    BeginCountsAsSynced,
    /// The origin's cursors are not stored with its commits.
    CursorsLeftOut,
    /// A learner counts for a quorum.
    LearnerCounts,
    /// A node counts itself among the others.
    CountsItself,
    /// A source goes on one commit too early.
    ResumesEarly,
    /// A source goes on one commit too late.
    ResumesLate,
    /// A copy is said to be whole at its head.
    CopyWholeEarly,
    /// What was removed is sent with a copy.
    CopyOfRemoved,
    /// A copy that was cut off in its middle is followed on as if it had been whole.
    CutCopyIsWhole,
    /// Batches that differ from their record are stored all the same.
    DigestIgnored,
    /// A follower that has more, or something else, is served.
    ForkedIsServed,
    /// A gap is not told.
    GapNotTold,
    /// Two nodes of one image go on with one life.
    TwinsGoOn,
    /// A topic's id is drawn at random.
    RandomTopicIds,
    /// Events of local topics wait for the quorum.
    LocalWaits,
    /// A quorum that is out of reach is not refused.
    ReachIgnored,
    /// Events of quorum topics are shown when they are synced here.
    ShownBeforeQuorum,
    /// Whatever origin a commit says it is of is stored.
    AnyOrigin,
    /// Survivors of a lost node do not level up.
    NoLevelling,
    /// A source sends more than its follower has room for.
    NoWindow,
    /// Retention waits for nobody.
    FloorIgnored,
    /// Retention waits for those who are heard alone.
    FloorForgetsTheSilent,
    /// Where records are gone retention takes it that nobody lacks anything.
    FloorForgetsRecords,
    /// Who is not waited for is sent nothing any more.
    GroupWaitsForever,
}

impl Bug {
    /// Each, with the invariants of which one must see it.
    pub const ALL: [(Bug, &'static [&'static str]); 27] = [
        (Bug::AckBeforeSync, &["acknowledged"]),
        (Bug::ShipsUnsynced, &["synced_alone_is_sent"]),
        (Bug::ClaimsUnsynced, &["synced_alone_is_sent"]),
        (Bug::BeginCountsAsSynced, &["acknowledged"]),
        (Bug::CursorsLeftOut, &["together"]),
        (Bug::LearnerCounts, &["acknowledged"]),
        (Bug::CountsItself, &["acknowledged"]),
        (Bug::ResumesEarly, &["converges"]),
        (Bug::ResumesLate, &["converges"]),
        (Bug::CopyWholeEarly, &["together"]),
        (Bug::CopyOfRemoved, &["together"]),
        (Bug::CutCopyIsWhole, &["converges", "together"]),
        (Bug::DigestIgnored, &["offsets"]),
        (Bug::ForkedIsServed, &["offsets", "together", "lives", "converges"]),
        (Bug::GapNotTold, &["gaps"]),
        (Bug::TwinsGoOn, &["lives"]),
        (Bug::RandomTopicIds, &["converges"]),
        (Bug::LocalWaits, &["nobody_waits"]),
        (Bug::ReachIgnored, &["quorum_refused"]),
        (Bug::ShownBeforeQuorum, &["visible_end"]),
        (Bug::AnyOrigin, &["together", "lives", "converges"]),
        (Bug::NoLevelling, &["converges"]),
        (Bug::NoWindow, &["bounds"]),
        (Bug::FloorIgnored, &["kept_for_followers"]),
        (Bug::FloorForgetsTheSilent, &["kept_for_followers"]),
        (Bug::FloorForgetsRecords, &["kept_for_followers"]),
        (Bug::GroupWaitsForever, &["converges"]),
    ];
}
