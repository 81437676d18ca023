//! Bugs that are planted in the model, to prove that the invariants see them. None is in the product.

/// One mistake that an end of a stream could make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// It goes as fast as it can.
    NoPacing,
    /// It goes while nobody commits alone.
    WaitsForQuiet,
    /// It goes at the least pace where nobody commits as well.
    AlwaysSlow,
}

impl Bug {
    /// Each, with the invariants of which one must see it.
    pub const ALL: [(Bug, &'static [&'static str]); 3] = [
        (Bug::NoPacing, &["live_first"]),
        (Bug::WaitsForQuiet, &["comes_up"]),
        (Bug::AlwaysSlow, &["free_when_quiet"]),
    ];
}
