//! How evenly something was shared out (pure).

/// What each of several had.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shares {
    /// What one had on average.
    pub mean: f64,
    /// What the one with the least had, of the average.
    pub least: f64,
    /// What the one with the most had, of the average.
    pub most: f64,
    /// Jain's index: 1 where all had the same, 1/n where one of n had all.
    pub jain: f64,
}

impl Shares {
    /// `None` where there is nobody, or nothing.
    pub fn of(had: &[u64]) -> Option<Shares> {
        let sum: f64 = had.iter().map(|had| *had as f64).sum();
        let squares: f64 = had.iter().map(|had| (*had as f64).powi(2)).sum();
        let (least, most) = (*had.iter().min()? as f64, *had.iter().max()? as f64);
        let mean = sum / had.len() as f64;
        (sum > 0.0).then(|| Shares {
            mean,
            least: least / mean,
            most: most / mean,
            jain: sum * sum / (had.len() as f64 * squares),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_one_for_equal_shares_and_a_part_for_one_who_has_all() {
        let cases: [(&[u64], Option<[f64; 4]>); 6] = [
            (&[7, 7, 7, 7], Some([7.0, 1.0, 1.0, 1.0])),
            (&[8, 0, 0, 0], Some([2.0, 0.0, 4.0, 0.25])),
            (&[1, 3], Some([2.0, 0.5, 1.5, 0.8])),
            (&[5], Some([5.0, 1.0, 1.0, 1.0])),
            (&[0, 0], None),
            (&[], None),
        ];
        for (had, expected) in cases {
            let found = Shares::of(had).map(|shares| [shares.mean, shares.least, shares.most, shares.jain]);
            assert_eq!(found, expected, "{had:?}");
        }
    }
}
