//! What one layer costs at each pair of bit-widths, in whole units of whatever the caller counts.
//!
//! Invariant: there is a cost for every pair of candidates, and none falls when a side takes more
//! bits. So the smallest candidates cost least and the largest most; more bits may cost the same.

use crate::bits::{Bits, Candidates, Side};
use crate::error::SearchError;

/// The candidates of a layer and the cost of each pair of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CostTable {
    weight: Candidates,
    act: Candidates,
    /// By weight candidate, then by act candidate, both ascending.
    costs: Vec<u64>,
}

impl CostTable {
    /// Take the candidates of each side in any order, and a row of costs per weight candidate with
    /// an entry per act candidate, both in the order given.
    ///
    /// # Errors
    /// No candidate, one outside 1 to 32 or one listed twice; another number of costs, or a cost
    /// that 64 bits do not hold or that falls with more bits.
    pub fn new(
        layer: &str,
        weight_candidates: &[i128],
        act_candidates: &[i128],
        rows: &[Vec<i128>],
    ) -> Result<Self, SearchError> {
        let weight = Candidates::new(layer, Side::Weight, weight_candidates)?;
        let act = Candidates::new(layer, Side::Act, act_candidates)?;
        check_count(layer, Side::Weight, rows.len(), weight_candidates.len())?;
        for row in rows {
            check_count(layer, Side::Act, row.len(), act_candidates.len())?;
        }
        let act_order = ascending_order(act_candidates);
        let mut costs = Vec::with_capacity(weight_candidates.len() * act_candidates.len());
        for weight_index in ascending_order(weight_candidates) {
            for &act_index in &act_order {
                let cost = rows[weight_index][act_index];
                let cost = u64::try_from(cost).map_err(|_| SearchError::CostRange {
                    layer: layer.to_owned(),
                    bits: format!(
                        "{}/{}",
                        weight_candidates[weight_index], act_candidates[act_index]
                    ),
                    cost,
                })?;
                costs.push(cost);
            }
        }
        let table = Self { weight, act, costs };
        table.check_never_falls(layer)?;
        Ok(table)
    }

    /// Return the candidates of one side.
    #[must_use]
    pub fn candidates(&self, side: Side) -> &Candidates {
        match side {
            Side::Weight => &self.weight,
            Side::Act => &self.act,
        }
    }

    /// Return the cost at a pair of bit-widths, `None` where one of them is no candidate.
    #[must_use]
    pub fn get(&self, weight_bits: u8, act_bits: u8) -> Option<u64> {
        let row = self.weight.position(weight_bits)? * self.act.as_slice().len();
        self.costs.get(row + self.act.position(act_bits)?).copied()
    }

    /// Return the cost at a pair of candidates.
    ///
    /// # Panics
    /// Of bits that are no candidates.
    #[must_use]
    pub fn at(&self, weight: Bits, act: Bits) -> u64 {
        let cost = self.get(weight.get(), act.get());
        assert!(cost.is_some(), "{weight}/{act} bits are no candidates");
        cost.unwrap_or_default()
    }

    /// Return the largest cost, that of the largest candidates.
    #[must_use]
    pub fn largest(&self) -> u64 {
        self.costs[self.costs.len() - 1]
    }

    fn check_never_falls(&self, layer: &str) -> Result<(), SearchError> {
        let width = self.act.as_slice().len();
        for (index, &cost) in self.costs.iter().enumerate() {
            let (row, column) = (index / width, index % width);
            // With one side a candidate smaller.
            let fewer_weight = (row > 0).then(|| (row - 1, column));
            let fewer_act = (column > 0).then(|| (row, column - 1));
            for (fewer_row, fewer_column) in [fewer_weight, fewer_act].into_iter().flatten() {
                let least = self.costs[fewer_row * width + fewer_column];
                if cost < least {
                    return Err(SearchError::CostFalls {
                        layer: layer.to_owned(),
                        bits: self.pair(row, column),
                        cost,
                        fewer_bits: self.pair(fewer_row, fewer_column),
                        least,
                    });
                }
            }
        }
        Ok(())
    }

    fn pair(&self, row: usize, column: usize) -> String {
        let (weight, act): (Bits, Bits) =
            (self.weight.as_slice()[row], self.act.as_slice()[column]);
        format!("{weight}/{act}")
    }
}

/// Return the positions of some candidates from the smallest to the largest.
fn ascending_order(candidates: &[i128]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_unstable_by_key(|&index| candidates[index]);
    order
}

fn check_count(layer: &str, side: Side, found: usize, expected: usize) -> Result<(), SearchError> {
    if found == expected {
        return Ok(());
    }
    Err(SearchError::CostCount { layer: layer.to_owned(), side: side.name(), found, expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[[i128; 2]]) -> Result<CostTable, SearchError> {
        let rows: Vec<_> = rows.iter().map(|row| row.to_vec()).collect();
        CostTable::new("conv1", &[4, 2], &[3, 8], &rows)
    }

    #[test]
    fn costs_are_those_of_the_candidates_in_the_order_given() {
        let table = table(&[[7, 9], [5, 7]]).unwrap();
        assert_eq!([table.get(4, 3), table.get(4, 8)], [Some(7), Some(9)]);
        assert_eq!([table.get(2, 3), table.get(2, 8)], [Some(5), Some(7)]);
        assert_eq!([table.get(3, 8), table.get(2, 33), table.get(0, 3)], [None; 3]);
        assert_eq!(table.largest(), 9);
    }

    #[test]
    fn more_bits_may_cost_the_same() {
        assert!(table(&[[0, 0], [0, 0]]).is_ok());
    }

    #[test]
    fn table_refuses_what_breaks_its_invariant() {
        let messages = [
            (table(&[[7, 9]]), "layer conv1 has costs for 1 weight candidates, not 2; give"),
            (
                CostTable::new("conv1", &[2], &[2, 3], &[vec![1]]),
                "layer conv1 has costs for 1 act candidates, not 2; give",
            ),
            (table(&[[7, 9], [5, -1]]), "layer conv1 costs -1 at 2/8 bits, outside 0..18446744"),
            (table(&[[7, 1 << 64], [5, 7]]), "layer conv1 costs 18446744073709551616 at 4/8 bits"),
            (table(&[[7, 9], [8, 8]]), "layer conv1 costs 7 at 4/3 bits, below 8 at 2/3; "),
            (table(&[[7, 6], [1, 1]]), "layer conv1 costs 6 at 4/8 bits, below 7 at 4/3; "),
        ];
        for (result, message) in messages {
            let found = result.unwrap_err().to_string();
            assert!(found.starts_with(message), "{found}");
        }
    }
}
