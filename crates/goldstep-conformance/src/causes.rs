//! From thousands of runs that differ to the few causes behind them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::agreement::{Mode, Quantity};
use crate::arguments::is_default;
use crate::golden::{Golden, Grid, Traces};
use crate::judge::Divergence;
use crate::run::{FamilyReport, Report};

/// Conjunctions of more arguments explain nothing to a reader.
const MOST_LITERALS: usize = 3;
/// Causes of one family beyond which the rest is lumped together.
const MOST_CAUSES: usize = 4;

/// Runs that differ for what seems to be the same reason.
#[derive(Debug, Clone, PartialEq)]
pub struct Cause {
    /// The family's position in the directory.
    pub family: usize,
    /// The runs, by position.
    pub runs: Vec<usize>,
    /// The runs of the family that could have shown it: refusals do not count unless they differ.
    pub of: usize,
    /// What the arguments of these runs have in common.
    pub predicate: Predicate,
    /// The simplest of the runs.
    pub representative: usize,
    /// What differs first in it.
    pub divergence: Divergence,
}

/// A predicate over arguments: all of its literals hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Predicate {
    /// One entry per argument that matters, in the order of the axes.
    pub literals: Vec<Literal>,
    /// Runs for which it holds as well and that agree; 0 where it explains everything.
    pub counterexamples: usize,
}

/// An argument has one of some values.
#[derive(Debug, Clone, PartialEq)]
pub struct Literal {
    /// Keras's name.
    pub argument: String,
    /// The values.
    pub values: Vec<Value>,
}

/// The causes of a report, those that explain most first in each family.
#[must_use]
pub fn causes(golden: &Golden, report: &Report) -> Vec<Cause> {
    report.families.iter().flat_map(|family| causes_of_family(golden, family)).collect()
}

fn causes_of_family(golden: &Golden, report: &FamilyReport) -> Vec<Cause> {
    let family = &golden.families()[report.family];
    let refusals = |(_, one): &&(usize, Divergence)| one.quantity() == Quantity::Refusal;
    let (refused, values): (Vec<_>, Vec<_>) = report.differ.iter().partition(refusals);
    let mut causes = Vec::new();
    for (differ, any) in [(refused, true), (values, false)] {
        if differ.is_empty() {
            continue;
        }
        // A run that has to be refused cannot show a wrong number.
        let can_show =
            |position: &&usize| any || family.trial(**position).expectation.error.is_none();
        let agree: Vec<usize> = report.agree.iter().filter(can_show).copied().collect();
        let of = agree.len() + differ.len();
        let runs: Vec<usize> = differ.iter().map(|(position, _)| *position).collect();
        let groups = match &family.traces {
            Traces::Grid(grid) => group_by_arguments(grid, &runs, &agree),
            Traces::Cases(_) => group_by_quantity(&differ),
        };
        for (predicate, runs) in groups {
            let members =
                || differ.iter().filter(|(position, _)| runs.binary_search(position).is_ok());
            let simplest = members().min_by_key(|(position, divergence)| {
                let trial = family.trial(*position);
                let set = |(name, value): &(&String, &Value)| !is_default(name, value);
                let free = divergence.mode == Mode::Free;
                (free, trial.arguments.iter().filter(set).count(), divergence.step, *position)
            });
            let Some((representative, divergence)) = simplest else { continue };
            causes.push(Cause {
                family: report.family,
                of,
                predicate,
                representative: *representative,
                divergence: divergence.clone(),
                runs,
            });
        }
    }
    causes
}

/// Cases that stand alone share no arguments by design: what differs first tells them apart.
fn group_by_quantity(differ: &[&(usize, Divergence)]) -> Vec<(Predicate, Vec<usize>)> {
    let mut groups: BTreeMap<Quantity, Vec<usize>> = BTreeMap::new();
    for (position, divergence) in differ {
        groups.entry(divergence.quantity()).or_default().push(*position);
    }
    groups.into_values().map(|runs| (Predicate::default(), runs)).collect()
}

/// Covers the runs that differ with as few and as short conjunctions as possible, of which no run
/// that agrees fulfils any.
fn group_by_arguments(
    grid: &Grid,
    differ: &[usize],
    agree: &[usize],
) -> Vec<(Predicate, Vec<usize>)> {
    let everything: Vec<usize> = differ.iter().chain(agree).copied().collect();
    let literals = literals(grid, &everything);
    let mut rest = Bits::of(everything.len(), |index| index < differ.len());
    let agree = Bits::of(everything.len(), |index| index >= differ.len());
    let mut groups = Vec::new();
    while rest.count() > 0 && groups.len() < MOST_CAUSES {
        let Some(found) = best_conjunction(&literals, &rest, &agree) else { break };
        let covered = found.bits.and(&rest);
        let literals = found.literals.iter().map(|index| literals[*index].to_literal(grid));
        let predicate = Predicate { literals: literals.collect(), counterexamples: 0 };
        groups.push((predicate, positions(&covered, &everything)));
        rest = rest.and_not(&covered);
    }
    if rest.count() > 0 {
        let runs = positions(&rest, &everything);
        groups.push((common(grid, &runs, &positions(&agree, &everything)), runs));
    }
    groups
}

/// The arguments that all of `runs` share, although others share them too.
fn common(grid: &Grid, runs: &[usize], agree: &[usize]) -> Predicate {
    let digits = |positions: &[usize]| -> Vec<Vec<usize>> {
        positions.iter().map(|position| grid.digits(grid.number(*position))).collect()
    };
    let (own, others) = (digits(runs), digits(agree));
    let mut masks = Vec::new();
    for (axis, values) in grid.axes().iter().enumerate() {
        let mask = own.iter().fold(0_u64, |mask, digits| mask | 1 << digits[axis]);
        if mask.count_ones() as usize == values.values.len() {
            continue;
        }
        masks.push(LiteralBits { axis, mask, bits: Bits::of(0, |_| false) });
    }
    let fulfils =
        |digits: &&Vec<usize>| masks.iter().all(|one| one.mask >> digits[one.axis] & 1 == 1);
    Predicate {
        counterexamples: others.iter().filter(fulfils).count(),
        literals: masks.iter().map(|one| one.to_literal(grid)).collect(),
    }
}

struct Conjunction {
    literals: Vec<usize>,
    bits: Bits,
}

/// The shortest conjunction that covers the rest; else the one that covers most of it.
fn best_conjunction(literals: &[LiteralBits], rest: &Bits, agree: &Bits) -> Option<Conjunction> {
    let everything = Conjunction { literals: Vec::new(), bits: rest.or(agree) };
    if agree.count() == 0 {
        return Some(everything);
    }
    let mut best: Option<(usize, Conjunction)> = None;
    let mut level = vec![everything];
    for length in 1..=MOST_LITERALS {
        let mut next = Vec::new();
        for conjunction in &level {
            let from = conjunction.literals.last().map_or(0, |last| last + 1);
            for (index, literal) in literals.iter().enumerate().skip(from) {
                let repeats = |other: &usize| literals[*other].axis == literal.axis;
                if conjunction.literals.iter().any(repeats) {
                    continue;
                }
                let bits = conjunction.bits.and(&literal.bits);
                let covered = bits.and(rest).count();
                if covered == 0 {
                    continue;
                }
                let mut indices = conjunction.literals.clone();
                indices.push(index);
                let candidate = Conjunction { literals: indices, bits };
                if candidate.bits.and(agree).count() > 0 {
                    if length < MOST_LITERALS {
                        next.push(candidate);
                    }
                } else if best.as_ref().is_none_or(|(most, _)| covered > *most) {
                    best = Some((covered, candidate));
                }
            }
        }
        if best.as_ref().is_some_and(|(covered, _)| *covered == rest.count()) {
            break;
        }
        level = next;
    }
    best.map(|(_, conjunction)| conjunction)
}

/// An argument with a set of its values, and the runs that have them.
struct LiteralBits {
    axis: usize,
    mask: u64,
    bits: Bits,
}

impl LiteralBits {
    fn to_literal(&self, grid: &Grid) -> Literal {
        let axis = &grid.axes()[self.axis];
        let chosen =
            axis.values.iter().enumerate().filter(|(digit, _)| self.mask >> digit & 1 == 1);
        let values = chosen.map(|(_, value)| value.clone()).collect();
        Literal { argument: axis.argument.clone(), values }
    }
}

/// Single values first, so that of equally good ones the plainest is found.
fn literals(grid: &Grid, everything: &[usize]) -> Vec<LiteralBits> {
    const MOST_VALUES: usize = 4;
    let digits: Vec<Vec<usize>> =
        everything.iter().map(|position| grid.digits(grid.number(*position))).collect();
    let mut literals = Vec::new();
    for (axis, values) in grid.axes().iter().enumerate() {
        let count = values.values.len().min(63);
        // All subsets of few values; of many only single ones.
        let masks: Vec<u64> = if count <= MOST_VALUES {
            (1..(1_u64 << count) - 1).collect()
        } else {
            (0..count).map(|digit| 1 << digit).collect()
        };
        for mask in masks {
            let bits = Bits::of(everything.len(), |index| mask >> digits[index][axis] & 1 == 1);
            literals.push(LiteralBits { axis, mask, bits });
        }
    }
    literals.sort_by_key(|literal| literal.mask.count_ones());
    literals
}

fn positions(bits: &Bits, everything: &[usize]) -> Vec<usize> {
    let set = everything.iter().enumerate().filter(|(index, _)| bits.get(*index));
    let mut positions: Vec<usize> = set.map(|(_, position)| *position).collect();
    positions.sort_unstable();
    positions
}

/// A set of small numbers.
#[derive(Debug, Clone, PartialEq)]
struct Bits(Vec<u64>);

impl Bits {
    fn of(length: usize, holds: impl Fn(usize) -> bool) -> Self {
        let mut words = vec![0; length.div_ceil(64)];
        for index in (0..length).filter(|index| holds(*index)) {
            words[index / 64] |= 1 << (index % 64);
        }
        Self(words)
    }

    fn get(&self, index: usize) -> bool {
        self.0[index / 64] >> (index % 64) & 1 == 1
    }

    fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    fn zip(&self, other: &Self, operation: impl Fn(u64, u64) -> u64) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(left, right)| operation(*left, *right)).collect())
    }

    fn and(&self, other: &Self) -> Self {
        self.zip(other, |left, right| left & right)
    }

    fn or(&self, other: &Self) -> Self {
        self.zip(other, |left, right| left | right)
    }

    fn and_not(&self, other: &Self) -> Self {
        self.zip(other, |left, right| left & !right)
    }
}
