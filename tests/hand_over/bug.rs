//! Bugs that are planted in the model, to prove that the invariants see them. None is in the product.

/// One mistake that a node could make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Another node is asked before it is durable that the command is on its way there.
    AsksBeforeDurable,
    /// A command is said to be taken before that is durable.
    SaysTakenBeforeDurable,
    /// What is being taken is said not to be there.
    TakingIsForgotten,
    /// What was declined is taken when the question comes a second time.
    DeclinedIsForgotten,
    /// A command is handed over again under the term of the time before.
    TermStands,
    /// A node that cannot be reached has not taken what it was asked for before.
    UnreachableMeansNo,
    /// What has no answer is not asked about again.
    AsksOnce,
    /// What other nodes write is not read.
    OthersAreNotRead,
    /// What must not be repeated is sent again where it is taken up.
    NeverIsTakenUp,
    /// The open commands of a lost node are left alone.
    NobodyTakesUp,
    /// A node that is back goes on at once.
    GoesOnAtOnce,
    /// What is being copied counts as here by the number of its head.
    CopyCountsByItsHead,
    /// A node that is back goes on when it has read a piece of what others have written.
    GoesOnAfterThePiece,
    /// What may have arrived is not said to who takes it.
    ArrivalIsForgotten,
}

impl Bug {
    /// Each, with the invariants of which one must see it.
    pub const ALL: [(Bug, &'static [&'static str]); 14] = [
        (Bug::AsksBeforeDurable, &["at_most_once", "one_outcome", "terms"]),
        (Bug::SaysTakenBeforeDurable, &["known_outcome"]),
        (Bug::TakingIsForgotten, &["at_most_once", "terms", "one_outcome"]),
        (Bug::DeclinedIsForgotten, &["at_most_once", "one_outcome"]),
        (Bug::TermStands, &["terms"]),
        (Bug::UnreachableMeansNo, &["at_most_once", "one_outcome"]),
        (Bug::AsksOnce, &["known_outcome"]),
        (Bug::OthersAreNotRead, &["known_outcome", "one_outcome"]),
        (Bug::NeverIsTakenUp, &["at_most_once"]),
        (Bug::NobodyTakesUp, &["goes_on"]),
        (Bug::GoesOnAtOnce, &["held_back"]),
        (Bug::CopyCountsByItsHead, &["held_back"]),
        (Bug::GoesOnAfterThePiece, &["held_back"]),
        (Bug::ArrivalIsForgotten, &["not_done", "at_most_once"]),
    ];
}
