//! Which combinations of a grid run free.
//!
//! Forced mode judges every step of every combination. Free-running adds what accumulates from step
//! to step, which combinations of one trajectory share; where a step is slow a sample is enough.

use std::collections::HashSet;

use crate::golden::{Golden, Traces};

/// Which combinations of the grids run free; single cases always do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FreeRuns {
    /// All of them.
    #[default]
    All,
    /// One of each trajectory and a number of others, drawn at random. The others are forced only.
    Sample {
        /// How many others.
        others: usize,
        /// The same seed draws the same.
        seed: u64,
    },
}

/// The combinations that are forced only, by family and position.
#[derive(Debug, Clone, Default)]
pub(crate) struct ForcedOnly(Vec<(usize, HashSet<usize>)>);

impl FreeRuns {
    /// Draws among the chosen runs, which `chosen` lists by family.
    pub(crate) fn draw(self, golden: &Golden, chosen: &[(usize, Vec<usize>)]) -> ForcedOnly {
        let Self::Sample { others, seed } = self else { return ForcedOnly::default() };
        let mut rest = Vec::new();
        let mut state = seed;
        for (index, positions) in chosen {
            let Traces::Grid(grid) = &golden.families()[*index].traces else { continue };
            let mut positions: Vec<usize> = positions
                .iter()
                .copied()
                .filter(|position| grid.expectation(*position).error.is_none())
                .collect();
            shuffle(&mut positions, &mut state);
            let mut seen = HashSet::new();
            let repeated = |position: &usize| !seen.insert(grid.trajectory(*position));
            rest.extend(positions.into_iter().filter(repeated).map(|position| (*index, position)));
        }
        shuffle(&mut rest, &mut state);
        let mut forced: Vec<(usize, HashSet<usize>)> = Vec::new();
        for (family, position) in rest.into_iter().skip(others) {
            match forced.iter_mut().find(|(own, _)| *own == family) {
                Some((_, positions)) => {
                    positions.insert(position);
                }
                None => forced.push((family, HashSet::from([position]))),
            }
        }
        ForcedOnly(forced)
    }
}

impl ForcedOnly {
    /// Whether that run is forced only.
    pub(crate) fn contains(&self, family: usize, position: usize) -> bool {
        self.0.iter().any(|(own, positions)| *own == family && positions.contains(&position))
    }

    /// How many runs of a family are forced only.
    pub(crate) fn count(&self, family: usize) -> usize {
        self.0.iter().filter(|(own, _)| *own == family).map(|(_, positions)| positions.len()).sum()
    }
}

fn shuffle<T>(items: &mut [T], state: &mut u64) {
    for end in (1..items.len()).rev() {
        let random = next(state) % (end as u64 + 1);
        // `random` is at most `end`.
        items.swap(end, usize::try_from(random).unwrap_or(end));
    }
}

/// The generator splitmix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_sample_holds_each_trajectory_and_the_others() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/v1");
        let golden = Golden::load(&directory).unwrap();
        let index = golden.families().iter().position(|family| family.id == "grid-bf16").unwrap();
        let Traces::Grid(grid) = &golden.families()[index].traces else { unreachable!() };
        let all: Vec<usize> = (0..grid.len()).collect();
        let chosen = [(index, all.clone())];
        let draw = |others, seed| FreeRuns::Sample { others, seed }.draw(&golden, &chosen);
        let none = draw(0, 1);
        let free = |drawn: &ForcedOnly| -> Vec<usize> {
            let accepted = |position: &&usize| grid.expectation(**position).error.is_none();
            let free = all.iter().filter(accepted).copied();
            free.filter(|position| !drawn.contains(index, *position)).collect()
        };
        assert_eq!(free(&none).len(), grid.trajectories());
        let seen: HashSet<usize> =
            free(&none).into_iter().map(|position| grid.trajectory(position)).collect();
        assert_eq!(seen.len(), grid.trajectories());
        assert_eq!(free(&draw(2, 1)).len(), grid.trajectories() + 2);
        assert_eq!(free(&draw(2, 1)), free(&draw(2, 1)));
        assert_ne!(free(&draw(0, 1)), free(&draw(0, 2)));
        assert_eq!(none.count(index), grid.len() - 11 - grid.trajectories());
        assert_eq!(FreeRuns::All.draw(&golden, &chosen).count(index), 0);
    }
}
