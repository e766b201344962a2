//! What failing runs have in common and the others do not have.

use std::collections::BTreeSet;

/// Conditions beyond this number do not explain anything to a reader.
const MOST_ALTERNATIVES: usize = 3;

/// A property of runs: an argument, the element type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// The values that it has in the runs, as they are shown.
    pub values: Vec<String>,
}

/// One run: for each feature the position of its value, and whether the run failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// One position per feature.
    pub values: Vec<usize>,
    /// Whether it failed.
    pub failed: bool,
}

/// `feature ∈ values`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Condition {
    feature: usize,
    values: BTreeSet<usize>,
}

/// Says which runs fail, in terms of their features.
///
/// Exact where the failing runs are those that fulfil a few conditions, or one of a few
/// alternatives; otherwise the conditions that every failing run fulfils, with the count of others
/// that fulfil them too.
#[must_use]
pub fn describe(features: &[Feature], runs: &[Run]) -> String {
    let failing = runs.iter().filter(|run| run.failed).count();
    if failing == runs.len() {
        return "all of them".to_owned();
    }
    let necessary = necessary(features, runs);
    let matching = count(&necessary, runs);
    if matching == failing {
        let minimal = minimal(necessary, matching, runs);
        return format!("all with {}, none without", text(&minimal, features));
    }
    if let Some(alternatives) = alternatives(features, runs, failing) {
        let texts: Vec<String> =
            alternatives.iter().map(|conditions| text(conditions, features)).collect();
        return format!("all with {}, none without", texts.join(" or "));
    }
    let minimal = minimal(necessary, matching, runs);
    if minimal.is_empty() {
        return "no argument in common".to_owned();
    }
    format!("only with {}: {failing} of {matching}", text(&minimal, features))
}

fn fulfils(run: &Run, conditions: &[Condition]) -> bool {
    conditions.iter().all(|condition| condition.values.contains(&run.values[condition.feature]))
}

fn count(conditions: &[Condition], runs: &[Run]) -> usize {
    runs.iter().filter(|run| fulfils(run, conditions)).count()
}

/// What every failing run fulfils, where it excludes anything.
fn necessary(features: &[Feature], runs: &[Run]) -> Vec<Condition> {
    let condition = |feature: usize| {
        let values = |failed: bool| -> BTreeSet<usize> {
            let chosen = runs.iter().filter(|run| run.failed || !failed);
            chosen.map(|run| run.values[feature]).collect()
        };
        let (failing, all) = (values(true), values(false));
        (failing.len() < all.len()).then_some(Condition { feature, values: failing })
    };
    (0..features.len()).filter_map(condition).collect()
}

/// Drops every condition without which as many runs match.
fn minimal(mut conditions: Vec<Condition>, matching: usize, runs: &[Run]) -> Vec<Condition> {
    let mut position = 0;
    while position < conditions.len() {
        let mut fewer = conditions.clone();
        fewer.remove(position);
        if count(&fewer, runs) == matching {
            conditions = fewer;
        } else {
            position += 1;
        }
    }
    conditions
}

/// A few conjunctions that together hold for the failing runs and for no other.
fn alternatives(features: &[Feature], runs: &[Run], failing: usize) -> Option<Vec<Vec<Condition>>> {
    let mut found: Vec<Vec<Condition>> = Vec::new();
    let mut covered = vec![false; runs.len()];
    for _ in 0..MOST_ALTERNATIVES {
        let next = purest(features, runs, &covered)?;
        for (covered, run) in covered.iter_mut().zip(runs) {
            *covered |= fulfils(run, &next);
        }
        found.push(next);
        if covered.iter().filter(|covered| **covered).count() == failing {
            return Some(found);
        }
    }
    None
}

/// A conjunction that only failing runs fulfil, grown one condition at a time by purity.
fn purest(features: &[Feature], runs: &[Run], covered: &[bool]) -> Option<Vec<Condition>> {
    let mut conditions: Vec<Condition> = Vec::new();
    loop {
        let matching: Vec<usize> =
            (0..runs.len()).filter(|index| fulfils(&runs[*index], &conditions)).collect();
        if matching.iter().all(|index| runs[*index].failed) {
            let new = matching.iter().any(|index| !covered[*index]);
            return (new && !conditions.is_empty()).then(|| widened(conditions, features, runs));
        }
        if conditions.len() >= 4 {
            return None;
        }
        let mut best: Option<(f64, usize, Condition)> = None;
        for (feature, described) in features.iter().enumerate() {
            for value in 0..described.values.len() {
                let chosen = || matching.iter().filter(|i| runs[**i].values[feature] == value);
                let all = chosen().count();
                let new = chosen().filter(|i| runs[**i].failed && !covered[**i]).count();
                if all == matching.len() || new == 0 {
                    continue;
                }
                let failed = chosen().filter(|i| runs[**i].failed).count();
                #[expect(clippy::cast_precision_loss, reason = "counts of runs")]
                let purity = failed as f64 / all as f64;
                let better = best.as_ref().is_none_or(|(p, n, _)| (purity, new) > (*p, *n));
                if better {
                    let condition = Condition { feature, values: BTreeSet::from([value]) };
                    best = Some((purity, new, condition));
                }
            }
        }
        conditions.push(best?.2);
    }
}

/// Admits further values as long as only failing runs are added.
fn widened(mut conditions: Vec<Condition>, features: &[Feature], runs: &[Run]) -> Vec<Condition> {
    for at in 0..conditions.len() {
        for value in 0..features[conditions[at].feature].values.len() {
            if !conditions[at].values.insert(value) {
                continue;
            }
            let added = runs.iter().filter(|run| {
                run.values[conditions[at].feature] == value && fulfils(run, &conditions)
            });
            let (mut any, mut pure) = (false, true);
            added.for_each(|run| (any, pure) = (true, pure && run.failed));
            if !(any && pure) {
                conditions[at].values.remove(&value);
            }
        }
    }
    conditions
}

fn text(conditions: &[Condition], features: &[Feature]) -> String {
    let one = |condition: &Condition| {
        let Feature { name, values } = &features[condition.feature];
        let others: Vec<usize> =
            (0..values.len()).filter(|value| !condition.values.contains(value)).collect();
        let shown: Vec<&str> =
            condition.values.iter().map(|value| values[*value].as_str()).collect();
        match (shown.as_slice(), others.as_slice()) {
            ([value], _) => format!("{name}={value}"),
            (_, [other]) => format!("{name}≠{}", values[*other]),
            _ => format!("{name} in {{{}}}", shown.join(", ")),
        }
    };
    conditions.iter().map(one).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All combinations of three features with 2, 3 and 2 values.
    fn runs(failed: impl Fn(&[usize]) -> bool) -> String {
        let feature = |name: &str, values: &[&str]| Feature {
            name: name.to_owned(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
        };
        let features = [
            feature("weight_decay", &["None", "0.004"]),
            feature("rate", &["0.9", "0.01", "schedule"]),
            feature("use_ema", &["False", "True"]),
        ];
        let mut runs = Vec::new();
        for number in 0..12 {
            let values = vec![number / 6, number / 2 % 3, number % 2];
            runs.push(Run { failed: failed(&values), values });
        }
        describe(&features, &runs)
    }

    #[test]
    fn one_argument() {
        assert_eq!(runs(|run| run[0] == 1), "all with weight_decay=0.004, none without");
        assert_eq!(runs(|run| run[1] != 1), "all with rate≠0.01, none without");
        assert_eq!(runs(|_| true), "all of them");
    }

    #[test]
    fn several_arguments() {
        assert_eq!(
            runs(|run| run[0] == 1 && run[2] == 0),
            "all with weight_decay=0.004 and use_ema=False, none without"
        );
        assert_eq!(
            runs(|run| run[0] == 1 || run[2] == 1),
            "all with weight_decay=0.004 or use_ema=True, none without"
        );
    }

    #[test]
    fn what_the_arguments_do_not_explain() {
        let odd = |run: &[usize]| run[0] == 1 && (run[1] + run[2]) % 2 == 1;
        assert_eq!(
            runs(odd),
            "all with weight_decay=0.004 and use_ema=True and rate≠0.01 or \
             weight_decay=0.004 and rate=0.01 and use_ema=False, none without"
        );
    }
}
