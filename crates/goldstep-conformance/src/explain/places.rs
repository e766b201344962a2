//! Where in a tensor the wrong elements are.

use std::collections::BTreeSet;

use crate::report::numbers::{index, thousands};

/// More single elements than this are described, not listed.
const MOST_LISTED: usize = 4;

/// Which elements of a tensor of that shape are at the ascending positions `wrong`, in words:
/// `every element`, `3 of 67: columns 64 to 66, the last`.
pub(super) fn places(shape: &[usize], wrong: &[usize]) -> String {
    let total: usize = shape.iter().product();
    if wrong.len() == total {
        return if total == 1 { "1 of 1" } else { "every element" }.to_owned();
    }
    let counts = format!("{} of {}", thousands(wrong.len()), thousands(total));
    match where_they_are(shape, wrong) {
        Some(words) => format!("{counts}: {words}"),
        None => counts,
    }
}

fn where_they_are(shape: &[usize], wrong: &[usize]) -> Option<String> {
    let (first, last) = (*wrong.first()?, *wrong.last()?);
    let axes: Vec<BTreeSet<usize>> =
        (0..shape.len()).map(|axis| along(shape, axis, wrong)).collect();
    let whole: usize = axes.iter().map(BTreeSet::len).product();
    let words: Option<Vec<String>> = (0..shape.len())
        .filter(|axis| axes[*axis].len() < shape[*axis])
        .map(|axis| slice(shape, axis, &axes[axis]))
        .collect();
    // Whole rows, columns or blocks.
    let whole = whole == wrong.len() && whole > 1;
    if let Some(words) = words.filter(|words| whole && words.len() < 3) {
        return Some(words.join(" of "));
    }
    if wrong.len() <= MOST_LISTED {
        let all: Vec<String> = wrong.iter().map(|at| index(shape, *at)).collect();
        return Some(all.join(" "));
    }
    let total: usize = shape.iter().product();
    let one_run = last - first + 1 == wrong.len();
    let end = if last + 1 == total { ", to the end" } else { "" };
    one_run.then(|| format!("{} to {}{end}", index(shape, first), index(shape, last)))
}

/// The coordinates of the elements along an axis.
fn along(shape: &[usize], axis: usize, wrong: &[usize]) -> BTreeSet<usize> {
    let stride: usize = shape[axis + 1..].iter().product();
    wrong.iter().map(|at| at / stride.max(1) % shape[axis]).collect()
}

/// `columns 64 to 66, the last`; nothing where the coordinates are not in one run.
fn slice(shape: &[usize], axis: usize, chosen: &BTreeSet<usize>) -> Option<String> {
    let (first, last) = (*chosen.first()?, *chosen.last()?);
    if last - first + 1 != chosen.len() {
        return None;
    }
    let name = match shape.len() - axis {
        1 if shape.len() == 1 => "element",
        1 => "column",
        2 => "row",
        _ => "index",
    };
    let of = if shape.len() - axis > 2 { format!(" of axis {axis}") } else { String::new() };
    let end = if last + 1 == shape[axis] { ", the last" } else { "" };
    Some(match first == last {
        true => format!("{name} {first}{of}{end}"),
        false => {
            let plural = if name == "index" { "indices".to_owned() } else { format!("{name}s") };
            let to = if first + 1 == last { "and" } else { "to" };
            format!("{plural} {first} {to} {last}{of}{end}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_elements_are_described_by_what_they_are() {
        let all: Vec<usize> = (0..6).collect();
        assert_eq!(places(&[], &[0]), "1 of 1");
        assert_eq!(places(&[2, 3], &[5]), "1 of 6: [1,2]");
        assert_eq!(places(&[2, 3], &all), "every element");
        assert_eq!(places(&[67], &[64, 65, 66]), "3 of 67: elements 64 to 66, the last");
        assert_eq!(places(&[2, 3], &[1, 4]), "2 of 6: column 1");
        assert_eq!(places(&[2, 3], &[3, 4, 5]), "3 of 6: row 1, the last");
        assert_eq!(
            places(&[2, 3], &[4, 5]),
            "2 of 6: row 1, the last of columns 1 and 2, the last"
        );
        assert_eq!(places(&[3, 2, 2], &[4, 5, 6, 7]), "4 of 12: index 1 of axis 0");
        assert_eq!(places(&[2, 3], &[0, 4]), "2 of 6: [0,0] [1,1]");
        assert_eq!(places(&[3, 3], &[1, 2, 3, 4, 5]), "5 of 9: [0,1] to [1,2]");
        assert_eq!(places(&[3, 3], &[0, 2, 3, 7, 8]), "5 of 9");
    }
}
