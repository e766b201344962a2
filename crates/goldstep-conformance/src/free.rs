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
        let grids = chosen.iter().filter_map(|(index, positions)| {
            let Traces::Grid(grid) = &golden.families()[*index].traces else { return None };
            let accepted = positions
                .iter()
                .filter(|position| grid.expectation(**position).error.is_none())
                .map(|position| (*position, grid.trajectory(*position)));
            Some((*index, accepted.collect()))
        });
        sample(grids, others, seed)
    }
}

/// All but one of each trajectory and `others` more; a grid is its family and, for each combination,
/// position and trajectory.
fn sample(
    grids: impl Iterator<Item = (usize, Vec<(usize, usize)>)>,
    others: usize,
    seed: u64,
) -> ForcedOnly {
    let mut rest = Vec::new();
    let mut state = seed;
    for (family, mut combinations) in grids {
        shuffle(&mut combinations, &mut state);
        let mut seen = HashSet::new();
        let repeated = combinations.into_iter().filter(|(_, trajectory)| !seen.insert(*trajectory));
        rest.extend(repeated.map(|(position, _)| (family, position)));
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
    use super::*;

    const FAMILY: usize = 3;
    const TRAJECTORIES: usize = 20;

    #[test]
    fn a_sample_holds_each_trajectory_and_the_others() {
        let all: Vec<(usize, usize)> =
            (0..7 * TRAJECTORIES).map(|position| (position, position * 3 % TRAJECTORIES)).collect();
        let draw = |others, seed| sample([(FAMILY, all.clone())].into_iter(), others, seed);
        let free = |drawn: &ForcedOnly| -> Vec<(usize, usize)> {
            let free = all.iter().filter(|(position, _)| !drawn.contains(FAMILY, *position));
            free.copied().collect()
        };
        let none = draw(0, 1);
        let seen: HashSet<usize> =
            free(&none).into_iter().map(|(_, trajectory)| trajectory).collect();
        assert_eq!((free(&none).len(), seen.len()), (TRAJECTORIES, TRAJECTORIES));
        assert_eq!(none.count(FAMILY), 6 * TRAJECTORIES);
        assert_eq!(none.count(FAMILY + 1), 0);
        assert_eq!(free(&draw(2, 1)).len(), TRAJECTORIES + 2);
        assert_eq!(free(&draw(2, 1)), free(&draw(2, 1)));
        assert_ne!(free(&draw(0, 1)), free(&draw(0, 2)));
        assert_eq!(draw(all.len(), 1).count(FAMILY), 0);
        let grids = [(FAMILY, all.clone()), (FAMILY + 2, all.clone())];
        let both = sample(grids.into_iter(), 0, 1);
        let counts = [FAMILY, FAMILY + 1, FAMILY + 2].map(|family| both.count(family));
        assert_eq!(counts, [6 * TRAJECTORIES, 0, 6 * TRAJECTORIES]);
    }

    #[test]
    fn a_grid_is_drawn_from_and_single_cases_are_not() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/v1");
        let golden = Golden::load(std::path::Path::new(directory)).unwrap();
        let all = |id: &str| {
            let index = golden.families().iter().position(|family| family.id == id).unwrap();
            (index, (0..golden.families()[index].len()).collect::<Vec<_>>())
        };
        let (grid, cases) = (all("grid-f32"), all("shapes"));
        let sample = FreeRuns::Sample { others: 10, seed: 1 };
        let drawn = sample.draw(&golden, &[grid.clone(), cases.clone()]);
        let Traces::Grid(traces) = &golden.families()[grid.0].traces else { panic!() };
        let accepted = grid.1.iter().filter(|at| traces.expectation(**at).error.is_none());
        let accepted: Vec<usize> = accepted.copied().collect();
        let trajectories: HashSet<usize> =
            accepted.iter().map(|at| traces.trajectory(*at)).collect();
        assert_eq!(drawn.count(grid.0), accepted.len() - trajectories.len() - 10);
        assert_eq!(drawn.count(cases.0), 0);
        assert_eq!(FreeRuns::All.draw(&golden, std::slice::from_ref(&grid)).count(grid.0), 0);
    }

    #[test]
    fn the_generator_is_splitmix64() {
        // The first outputs that its author's C program prints for this seed.
        let mut state = 1_234_567;
        let first = [next(&mut state), next(&mut state), next(&mut state)];
        let known: [u64; 3] =
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(first, known);
    }

    #[test]
    fn every_order_can_be_drawn() {
        let mut state = 1;
        let orders: HashSet<[u8; 3]> = (0..200)
            .map(|_| {
                let mut items = [0, 1, 2];
                shuffle(&mut items, &mut state);
                items
            })
            .collect();
        assert_eq!(orders.len(), 6);
    }
}
