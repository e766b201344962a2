//! What failing runs have in common and the others do not have.

use std::collections::BTreeSet;

use crate::report::numbers::thousands;

/// The values of a property that a run has or has not.
pub(super) const YES: &str = "yes";
pub(super) const NO: &str = "no";
/// Conditions beyond this number do not explain anything to a reader.
const MOST_ALTERNATIVES: usize = 3;
/// Nor do more values of one argument.
const MOST_VALUES: usize = 4;

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
/// Exact where the failing runs, or the passing ones, are those that fulfil a few conditions, or
/// where the failing ones fulfil one of a few alternatives. Otherwise the conditions that every
/// failing run fulfils, if they exclude most of the others, with the count of those that fulfil
/// them and do not fail.
#[must_use]
pub fn describe(features: &[Feature], runs: &[Run]) -> String {
    let failing = runs.iter().filter(|run| run.failed).count();
    if failing == runs.len() {
        return "all of them".to_owned();
    }
    let (required, matching) = minimal(necessary(features, runs), runs, 0);
    if matching == failing {
        return format!("all with {}, {}", text(&required, features), rest(&required, features));
    }
    let alternatives = alternatives(features, runs, failing);
    let passing: Vec<Run> =
        runs.iter().map(|run| Run { failed: !run.failed, ..run.clone() }).collect();
    let (excepted, spared) = minimal(necessary(features, &passing), &passing, 0);
    // Of two exact descriptions the shorter one.
    let parts = alternatives.as_ref().map_or(usize::MAX, Vec::len);
    if spared == passing.len() - failing && excepted.len() <= MOST_ALTERNATIVES && parts > 2 {
        return format!("all but those with {}", text(&excepted, features));
    }
    if let Some(alternatives) = alternatives {
        let texts: Vec<String> =
            alternatives.iter().map(|conditions| text(conditions, features)).collect();
        return format!("all with {}; no others", texts.join(", or with "));
    }
    // What excludes hardly anything is no explanation.
    let (required, matching) = tightest(&necessary(features, runs), runs, failing);
    if 2 * (matching - failing) > runs.len() - failing {
        return "no argument in common".to_owned();
    }
    let (failing, matching) = (thousands(failing), thousands(matching));
    format!("only with {}, {failing} of those {matching}", text(&required, features))
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

/// Drops every condition without which at most `slack` more runs match; and how many match.
fn minimal(mut conditions: Vec<Condition>, runs: &[Run], slack: usize) -> (Vec<Condition>, usize) {
    let most = count(&conditions, runs) + slack;
    let mut position = 0;
    while position < conditions.len() {
        let mut fewer = conditions.clone();
        fewer.remove(position);
        if count(&fewer, runs) <= most {
            conditions = fewer;
        } else {
            position += 1;
        }
    }
    let matching = count(&conditions, runs);
    (conditions, matching)
}

/// Of the conditions that every failing run fulfils the few that exclude most of the others; and how
/// many runs match.
fn tightest(conditions: &[Condition], runs: &[Run], failing: usize) -> (Vec<Condition>, usize) {
    let slack = (runs.len() - failing).div_ceil(10);
    let (mut chosen, mut matching) = (Vec::new(), runs.len());
    while chosen.len() < MOST_ALTERNATIVES {
        let with = |condition: &Condition| {
            let more: Vec<Condition> =
                chosen.iter().chain([condition]).map(Condition::clone).collect();
            (count(&more, runs), more)
        };
        let Some((fewer, more)) = conditions.iter().map(with).min_by_key(|(count, _)| *count)
        else {
            break;
        };
        if fewer + slack > matching {
            break;
        }
        (chosen, matching) = (more, fewer);
    }
    chosen.sort_by_key(|condition| condition.feature);
    (chosen, matching)
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

/// `a=1, b≠2 and missing gradients`.
fn text(conditions: &[Condition], features: &[Feature]) -> String {
    let each: Vec<String> = conditions.iter().map(|one| one.text(features)).collect();
    enumerated(&each, "and")
}

/// What is said of the runs that do not fulfil the conditions.
fn rest(conditions: &[Condition], features: &[Feature]) -> &'static str {
    let plain = |one: &Condition| {
        one.values.iter().all(|value| features[one.feature].values[*value] != NO)
            && one.values.len() == 1
    };
    if conditions.iter().all(plain) { "none without" } else { "no others" }
}

/// `a, b and c`.
fn enumerated(each: &[String], word: &str) -> String {
    match each {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} {word} {last}", first.join(", ")),
    }
}

impl Condition {
    fn text(&self, features: &[Feature]) -> String {
        let Feature { name, values } = &features[self.feature];
        let pick = |inside: bool| -> Vec<String> {
            let chosen = (0..values.len()).filter(|at| self.values.contains(at) == inside);
            let mut chosen: Vec<String> = chosen.map(|at| values[at].clone()).collect();
            chosen.sort_by(|one, other| number(one).total_cmp(&number(other)));
            chosen
        };
        let (inside, outside) = (pick(true), pick(false));
        match (inside.as_slice(), outside.as_slice()) {
            ([value], _) if value == YES => return name.clone(),
            ([value], _) if value == NO => return format!("no {name}"),
            ([value], _) => return format!("{name}={value}"),
            (_, [other]) => return format!("{name}≠{other}"),
            _ => {}
        }
        if let Some(range) = range(name, &inside, &outside) {
            return range;
        }
        if outside.len() < inside.len() && outside.len() <= MOST_VALUES {
            return format!("{name} other than {}", enumerated(&outside, "or"));
        }
        let (shown, more) = inside.split_at(inside.len().min(MOST_VALUES));
        match more.len() {
            0 => format!("{name}={}", enumerated(shown, "or")),
            more => format!("{name}={} or one of {more} more values", shown.join(", ")),
        }
    }
}

/// `name≥2` or `1≤name≤2`, if the values are all those in a range, as far as there are numbers.
fn range(name: &str, inside: &[String], outside: &[String]) -> Option<String> {
    let (first, last) = (inside.first()?, inside.last()?);
    let (least, most) = (number(first), number(last));
    if inside.iter().any(|value| number(value).is_nan()) {
        return None;
    }
    let others = || outside.iter().map(|value| number(value)).filter(|value| !value.is_nan());
    let (below, above) = (others().any(|one| one < least), others().any(|one| one > most));
    if others().any(|one| one > least && one < most) {
        return None;
    }
    match (below, above) {
        (true, false) => Some(format!("{name}≥{first}")),
        (false, true) => Some(format!("{name}≤{last}")),
        (true, true) if inside.len() > 2 => Some(format!("{first}≤{name}≤{last}")),
        _ => None,
    }
}

/// A value as a number; NaN, which is sorted last, for `None` and words.
fn number(value: &str) -> f64 {
    value.parse().unwrap_or(f64::NAN)
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
        assert_eq!(runs(|run| run[1] != 1), "all with rate≠0.01, no others");
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
            "all with weight_decay=0.004, or with use_ema=True; no others"
        );
    }

    #[test]
    fn what_the_arguments_do_not_explain() {
        let odd = |run: &[usize]| run[0] == 1 && (run[1] + run[2]) % 2 == 1;
        assert_eq!(
            runs(odd),
            "all with weight_decay=0.004, use_ema=True and rate≠0.01, or with weight_decay=0.004, \
             rate=0.01 and use_ema=False; no others"
        );
        assert_eq!(
            runs(|run| run[0] == 0 || run[1] != 2 || run[2] == 0),
            "all but those with weight_decay=0.004, rate=schedule and use_ema=True"
        );
    }

    /// One feature with those values: what is said when those at `failing` fail.
    fn of_values(values: &[&str], failing: &[usize]) -> String {
        let feature = Feature {
            name: "x".to_owned(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
        };
        let run = |value| Run { values: vec![value], failed: failing.contains(&value) };
        let runs: Vec<Run> = (0..values.len()).map(run).collect();
        describe(&[feature], &runs)
    }

    #[test]
    fn many_values_are_said_in_few_words() {
        let numbers = ["1", "0.5", "0", "0.6", "0.7", "None"];
        for (failing, expected) in [
            (vec![2, 1], "x≤0.5"),
            (vec![0, 4], "x≥0.7"),
            (vec![0, 1, 3, 4], "x≥0.5"),
            (vec![1, 3, 4], "0.5≤x≤0.7"),
            (vec![2, 0], "x=0 or 1"),
            (vec![5, 2, 0], "x=0, 1 or None"),
            (vec![0, 2, 3, 5], "x other than 0.5 or 0.7"),
            (vec![0, 1, 2, 3, 4], "x≠None"),
        ] {
            assert_eq!(of_values(&numbers, &failing), format!("all with {expected}, no others"));
        }
        let words = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];
        assert_eq!(
            of_values(&words, &[0, 1, 2, 3, 4, 5]),
            "all with x=a, b, c, d or one of 2 more values, no others"
        );
    }

    #[test]
    fn what_a_run_has_or_has_not() {
        assert_eq!(of_values(&["no", "yes"], &[1]), "all with x, none without");
        assert_eq!(of_values(&["no", "yes"], &[0]), "all with no x, no others");
    }

    #[test]
    fn what_passes_may_be_simpler_to_say() {
        let feature = |name: &str| Feature {
            name: name.to_owned(),
            values: vec![NO.to_owned(), YES.to_owned()],
        };
        let features = [feature("a"), feature("b"), feature("c")];
        let mut runs = Vec::new();
        for values in [[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0], [0, 0, 0]] {
            runs.push(Run { values: values.to_vec(), failed: true });
        }
        runs.push(Run { values: vec![1, 1, 1], failed: false });
        runs.push(Run { values: vec![1, 1, 1], failed: false });
        assert_eq!(describe(&features, &runs), "all but those with a, b and c");
    }

    #[test]
    fn of_many_conditions_the_tightest_are_said() {
        let names = ["a", "b", "c", "d", "e"];
        let values = [NO, YES].map(str::to_owned).to_vec();
        let features = names.map(|name| Feature { name: name.to_owned(), values: values.clone() });
        // Failing runs have all five; each but `c` and `e` excludes one of 100 others.
        let mut runs = vec![Run { values: vec![1; 5], failed: true }; 2];
        runs.push(Run { values: vec![1; 5], failed: false });
        for number in 0..100 {
            let mut values = vec![1; 5];
            values[match number {
                0 => 0,
                1 => 1,
                2 => 3,
                ..60 => 2,
                _ => 4,
            }] = 0;
            runs.push(Run { values, failed: false });
        }
        assert_eq!(describe(&features, &runs), "only with c and e, 2 of those 6");
    }

    #[test]
    fn conditions_that_exclude_little_are_not_said() {
        let features =
            [Feature { name: "x".to_owned(), values: vec!["1".to_owned(), "2".to_owned()] }];
        let mut runs: Vec<Run> =
            (0..80).map(|at| Run { values: vec![0], failed: at % 5 == 0 }).collect();
        runs.extend([false; 3].map(|failed| Run { values: vec![1], failed }));
        assert_eq!(describe(&features, &runs), "no argument in common");
        runs.extend([false; 80].map(|failed| Run { values: vec![1], failed }));
        assert_eq!(describe(&features, &runs), "only with x=1, 16 of those 80");
    }
}
