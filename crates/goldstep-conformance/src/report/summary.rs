//! One aligned row per implementation.

use std::fmt::Write as _;

use super::numbers::{error, thousands};
use super::standing::{Standing, skipped_by_need, skipped_whole};
use crate::agreement::{FIRST_MEASURED, Mode, Quantity, Role};
use crate::free::FreeRuns;
use crate::golden::{Golden, Traces};
use crate::run::{FamilyReport, Report};

/// What the goldens hold, and who made them, in a few lines.
#[must_use]
pub fn golden_line(golden: &Golden) -> String {
    let families = golden.families();
    let grids = families.iter().filter_map(|family| match &family.traces {
        Traces::Grid(grid) => Some((family, grid)),
        Traces::Cases(_) => None,
    });
    let mut parts = Vec::new();
    for (family, grid) in grids {
        parts.push(format!(
            "{}: {} combinations, {} of them refusals, {} trajectories",
            family.id,
            thousands(grid.len()),
            thousands(family.errors()),
            thousands(grid.trajectories()),
        ));
    }
    let cases = families.iter().filter(|family| matches!(family.traces, Traces::Cases(_)));
    let (count, total) =
        cases.fold((0, 0), |(count, total), family| (count + 1, total + family.len()));
    if count > 0 {
        parts.push(format!("{} cases in {count} more families", thousands(total)));
    }
    let maker = |name: &str| golden.generated()?.get(name)?.as_str();
    let by = match (maker("tensorflow"), maker("keras")) {
        (Some(tensorflow), Some(keras)) => {
            format!(" · recorded from tensorflow {tensorflow}, keras {keras}")
        }
        _ => String::new(),
    };
    format!("{}{by}\n  {}\n", golden.directory().display(), parts.join("\n  "))
}

/// One row per implementation: checks passed per family, worst observed against allowed, time.
/// Families stand side by side, or below each other where they would be wider than `width`.
#[must_use]
pub fn summary(reports: &[Report], width: usize) -> String {
    let mut ids: Vec<&str> = Vec::new();
    for family in reports.iter().flat_map(|report| &report.families) {
        if !ids.contains(&family.id.as_str()) {
            ids.push(&family.id);
        }
    }
    let mut head = vec!["", "backend", "agree"].into_iter().map(str::to_owned).collect::<Vec<_>>();
    let tail = ["worst forced", "worst free", "time"].map(str::to_owned);
    let mut rows: Vec<Vec<String>> = reports.iter().map(leading_cells).collect();
    let wide: Vec<Vec<String>> = reports
        .iter()
        .zip(&rows)
        .map(|(report, row)| {
            let cells = ids.iter().map(|id| family_cell(report, id));
            row.iter().cloned().chain(cells).chain(trailing_cells(report)).collect()
        })
        .collect();
    let wide_head: Vec<String> = head
        .iter()
        .cloned()
        .chain(ids.iter().map(|id| (*id).to_owned()))
        .chain(tail.clone())
        .collect();
    let table = aligned(&wide_head, &wide);
    let mut text = String::new();
    if table.lines().all(|line| line.chars().count() <= width) {
        text.push_str(&table);
    } else {
        let names = reports.iter().map(|report| report.name.clone());
        let family_head: Vec<String> =
            ["", "family"].map(str::to_owned).into_iter().chain(names).collect();
        let family_rows: Vec<Vec<String>> = ids
            .iter()
            .map(|id| {
                let standings = reports.iter().map(|report| Standing::of(report.family(id)));
                let mark = family_mark(standings);
                let cells = reports.iter().map(|report| family_cell(report, id));
                [mark.to_owned(), (*id).to_owned()].into_iter().chain(cells).collect()
            })
            .collect();
        text.push_str(&aligned(&family_head, &family_rows));
        text.push('\n');
        head.extend(tail);
        for (row, report) in rows.iter_mut().zip(reports) {
            row.extend(trailing_cells(report));
        }
        text.push_str(&backends(head, rows, width));
    }
    for report in reports {
        text.push_str(&skipped(report));
        text.push_str(&beside_first_measured(report));
    }
    text
}

/// The rows of the implementations; where they are wider than `width`, the worst errors stand in
/// lines of their own.
fn backends(mut head: Vec<String>, mut rows: Vec<Vec<String>>, width: usize) -> String {
    let table = aligned(&head, &rows);
    if table.lines().all(|line| line.chars().count() <= width) {
        return table;
    }
    let worst = head.len() - 3..head.len() - 1;
    let labels: Vec<String> = head.drain(worst.clone()).collect();
    let mut lines = String::new();
    for row in &mut rows {
        let cells: Vec<String> = row.drain(worst.clone()).collect();
        for (label, cell) in labels.iter().zip(cells) {
            let _ = writeln!(lines, "{}: {label} {cell}", row[1]);
        }
    }
    aligned(&head, &rows) + &lines
}

/// The reference's forced errors beside those for which the tolerances were set.
fn beside_first_measured(report: &Report) -> String {
    let observations = report.observations();
    let pair = |(quantity, before): (Quantity, f64)| {
        let worst = observations.worst(Mode::Forced, quantity)?;
        Some(format!("{} {} ({})", quantity.name(), error(worst.error), error(before)))
    };
    let pairs: Vec<String> = FIRST_MEASURED.into_iter().filter_map(pair).collect();
    if report.role != Role::Reference || pairs.is_empty() {
        return String::new();
    }
    format!(
        "{}: worst forced, in brackets when the tolerances were set: {}\n",
        report.name,
        pairs.join(" ")
    )
}

fn leading_cells(report: &Report) -> Vec<String> {
    let sum = |count: fn(&FamilyReport) -> usize| report.families.iter().map(count).sum::<usize>();
    let agree = sum(|family| family.agree.len() + family.known_differences);
    let chosen = sum(|family| family.chosen);
    let bad = !report.agrees() || report.is_broken();
    vec![
        if bad { "FAIL" } else { "ok" }.to_owned(),
        report.name.clone(),
        format!("{} of {}", thousands(agree), thousands(chosen)),
    ]
}

/// `27,648`, with `of …` where it is not all; `skipped` where nothing was judged.
fn family_cell(report: &Report, id: &str) -> String {
    let Some(family) = report.family(id) else { return "–".to_owned() };
    let agree = family.agree.len() + family.known_differences;
    let standing = Standing::of(Some(family));
    if standing == Standing::Skipped {
        "skipped".to_owned()
    } else if agree == family.chosen {
        thousands(agree)
    } else {
        let mark = if standing.is_bad() { " !" } else { "" };
        format!("{} of {}{mark}", thousands(agree), thousands(family.chosen))
    }
}

/// What begins the row of a family: skipped is not passed.
fn family_mark(standings: impl Iterator<Item = Standing> + Clone) -> &'static str {
    if standings.clone().any(Standing::is_bad) {
        "FAIL"
    } else if standings.clone().any(|standing| standing == Standing::Agrees) {
        "ok"
    } else {
        "skip"
    }
}

fn trailing_cells(report: &Report) -> [String; 3] {
    let observations = report.observations();
    let worst = |mode| {
        let cells = observations.iter(mode).filter(|(_, worst)| worst.allowance.figure() > 0.0);
        let cells = cells.map(|(quantity, worst)| {
            let allowed = error(worst.allowance.figure());
            format!("{} {}/{allowed}", quantity.name(), error(worst.error))
        });
        let cells: Vec<String> = cells.collect();
        if cells.is_empty() { "–".to_owned() } else { cells.join(" ") }
    };
    let time = format!("{:.2} s", report.elapsed.as_secs_f64());
    [worst(Mode::Forced), worst(Mode::Free), time]
}

fn skipped(report: &Report) -> String {
    let known: usize = report.families.iter().map(|family| family.known_differences).sum();
    let mut text = String::new();
    // Writing to a string cannot fail.
    if known > 0 {
        let _ = writeln!(text, "{}: {} differ where it is known", report.name, thousands(known));
    }
    let wide: usize = report.families.iter().map(|family| family.wide).sum();
    if wide > 0 {
        let _ = writeln!(
            text,
            "{}: {} of them are in no list: in half precision they differ as float32 arithmetic does",
            report.name,
            thousands(wide)
        );
    }
    for (families, needs) in skipped_whole(report) {
        let families = families.join(", ");
        let _ = writeln!(text, "{}: nothing judged of {families}: {needs}", report.name);
    }
    for (reason, count) in skipped_by_need(report) {
        let _ = writeln!(text, "{}: {} skipped, needs {reason}", report.name, thousands(count));
    }
    let forced_only: usize = report.families.iter().map(|family| family.forced_only).sum();
    if let FreeRuns::Sample { others, seed } = report.free_runs
        && forced_only > 0
    {
        let _ = writeln!(
            text,
            "{}: {} combinations were forced only; one of each trajectory and {} others ran free \
             too (seed {seed})",
            report.name,
            thousands(forced_only),
            thousands(others),
        );
    }
    if !report.description.capabilities.set_state {
        let _ = writeln!(text, "{}: judged free-running only, cannot set its state", report.name);
    }
    text
}

/// Columns of equal width, two blanks between them; numbers to the right.
fn aligned(head: &[String], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            let cells = rows.iter().map(|row| &row[column]).chain([&head[column]]);
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        })
        .collect();
    let mut text = String::new();
    for row in std::iter::once(head).chain(rows.iter().map(Vec::as_slice)) {
        let mut line = String::new();
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let pad = " ".repeat(width - cell.chars().count());
            let numeric =
                rows.iter().any(|row| row[index].starts_with(|c: char| c.is_ascii_digit()));
            let (before, after) = if numeric { (pad, String::new()) } else { (String::new(), pad) };
            let gap = if index == 0 { "" } else { "  " };
            let _ = write!(line, "{gap}{before}{cell}{after}");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::implementation::{Capabilities, Description};
    use crate::invocation::Invocation;

    fn family(id: &str, agree: usize, skipped: usize) -> FamilyReport {
        let mut family = FamilyReport { id: id.to_owned(), ..FamilyReport::default() };
        family.chosen = agree + skipped;
        family.agree = (0..agree).collect();
        if skipped > 0 {
            family.skipped.insert("sparse gradients".to_owned(), skipped);
        }
        family
    }

    fn report(families: Vec<FamilyReport>) -> Report {
        Report {
            name: "own".to_owned(),
            invocation: Invocation::backend("own"),
            role: Role::Other,
            description: Description {
                name: "own".to_owned(),
                version: String::new(),
                language: String::new(),
                source: String::new(),
                capabilities: Capabilities::everything(),
            },
            families,
            stale: Vec::new(),
            incidents: Vec::new(),
            free_runs: FreeRuns::All,
            elapsed: Duration::from_millis(1250),
        }
    }

    #[test]
    fn what_was_skipped_does_not_look_passed() {
        let families =
            vec![family("shapes", 80, 0), family("values", 3, 1), family("sparse", 0, 28)];
        let reports = [report(families)];
        let narrow = summary(&reports, 40);
        let rows = [
            "      family      own",
            "ok    shapes       80",
            "ok    values   3 of 4",
            "skip  sparse  skipped",
            "",
            "    backend      agree    time",
            "ok  own      83 of 112  1.25 s",
            "own: worst forced –",
            "own: worst free –",
            "own: nothing judged of sparse: needs sparse gradients",
            "own: 29 skipped, needs sparse gradients",
        ];
        assert_eq!(narrow.lines().collect::<Vec<_>>(), rows);
        let beside = summary(&reports, 60);
        assert!(beside.contains("\nok  own      83 of 112  –             –           1.25 s\n"));
        let wide = summary(&reports, 200);
        assert!(wide.lines().nth(1).unwrap().contains("3 of 4  skipped"), "{wide}");
    }
}
