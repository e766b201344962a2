//! Error growth as an inline SVG.

use maud::{Markup, html};

use crate::explain::Growth;
use crate::report::numbers::error;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 52.0;
const BOTTOM: f64 = 34.0;
const TOP: f64 = 12.0;
const RIGHT: f64 = 20.0;
/// The smallest error on the logarithmic axis.
const FLOOR: f64 = 0.01;

/// Steps in the table below a plot; more are thinned.
const MOST_ROWS: usize = 40;

/// One line of a plot.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    /// One of the series colours of the style sheet, or 0 for what is allowed.
    pub(super) series: usize,
}

/// The lines of one implementation: its variables, and what is allowed.
pub(super) fn lines(name: &str, growth: &[Growth], series: usize) -> Vec<Line> {
    let points = |value: fn(&Growth) -> f64| -> Vec<(f64, f64)> {
        #[expect(clippy::cast_precision_loss, reason = "counts of steps")]
        let point = |row: &Growth| (row.step as f64, value(row));
        growth.iter().map(point).collect()
    };
    vec![Line { name: name.to_owned(), points: points(|row| row.variable), series }]
}

/// What is allowed for variables, as a line.
pub(super) fn allowed(growth: &[Growth]) -> Line {
    #[expect(clippy::cast_precision_loss, reason = "counts of steps")]
    let points = growth.iter().map(|row| (row.step as f64, row.allowed)).collect();
    Line { name: "allowed".to_owned(), points, series: 0 }
}

/// Errors over steps, in eps of the largest magnitude, on a logarithmic axis.
pub(super) fn plot(title: &str, lines: &[Line]) -> Markup {
    let finite = || lines.iter().flat_map(|line| &line.points).filter(|(_, y)| y.is_finite());
    let last = finite().map(|(x, _)| *x).fold(2.0, f64::max);
    let most = finite().map(|(_, y)| *y).fold(10.0, f64::max).min(1e12);
    let (low, high) = (FLOOR.log10(), most.log10().ceil());
    let x = |step: f64| LEFT + (step - 1.0) / (last - 1.0) * (WIDTH - LEFT - RIGHT);
    let y = |error: f64| {
        let clamped = error.clamp(FLOOR, 10_f64.powf(high)).log10();
        TOP + (high - clamped) / (high - low) * (HEIGHT - TOP - BOTTOM)
    };
    let decades = decades(low, high);
    let steps = ticks(last);
    html! {
        figure class="plot" {
            figcaption { (title) }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(title) {
                @for decade in &decades {
                    @let at = format!("{:.1}", y(10_f64.powi(*decade)));
                    line class="grid" x1=(LEFT) x2=(WIDTH - RIGHT) y1=(at) y2=(at) {}
                    text class="tick" x=(LEFT - 6.0) y=(at) dy="4" text-anchor="end" { (power(*decade)) }
                }
                @for step in &steps {
                    text class="tick" x=(format!("{:.1}", x(*step))) y=(HEIGHT - BOTTOM + 16.0) text-anchor="middle" { (step) }
                }
                text class="tick" x=((WIDTH + LEFT) / 2.0) y=(HEIGHT - 3.0) text-anchor="middle" { "step" }
                @for line in lines {
                    polyline class={ "line s" (line.series) } points=(path(line, x, y)) {
                        title { (line.name) }
                    }
                    @if line.points.len() <= 12 && line.series > 0 {
                        @for (step, error) in &line.points {
                            circle class={ "dot s" (line.series) } r="3" cx=(format!("{:.1}", x(*step))) cy=(format!("{:.1}", y(*error))) {}
                        }
                    }
                }
            }
            ul class="legend" {
                @for line in lines {
                    li {
                        svg class="key" viewBox="0 0 32 8" aria-hidden="true" {
                            line class={ "line s" (line.series) } x1="0" y1="4" x2="32" y2="4" {}
                        }
                        (line.name)
                    }
                }
            }
            (figures(title, lines))
        }
    }
}

/// What the plot shows, for those who cannot see it or want the numbers.
fn figures(title: &str, lines: &[Line]) -> Markup {
    let mut steps: Vec<f64> =
        lines.iter().flat_map(|line| &line.points).map(|(step, _)| *step).collect();
    steps.sort_by(f64::total_cmp);
    steps.dedup_by(|left, right| left.total_cmp(right).is_eq());
    let every = steps.len().div_ceil(MOST_ROWS).max(1);
    let value = |line: &Line, step: f64| {
        let point = line.points.iter().find(|(at, _)| at.total_cmp(&step).is_eq());
        point.map_or_else(|| "–".to_owned(), |(_, value)| error(*value))
    };
    html! {
        details {
            summary { "The same as a table" }
            div class="scroll" tabindex="0" role="region" aria-label={ (title) ", table" } { table {
                caption { (title) }
                thead { tr {
                    th scope="col" class="n" { "Step" }
                    @for line in lines { th scope="col" class="n" { (line.name) } }
                } }
                tbody { @for step in steps.iter().step_by(every) { tr {
                    th scope="row" class="n" { (step) }
                    @for line in lines { td class="n" { (value(line, *step)) } }
                } } }
            } }
        }
    }
}

fn path(line: &Line, x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) -> String {
    let known = line.points.iter().filter(|(_, error)| !error.is_nan());
    let points = known.map(|(step, error)| format!("{:.1},{:.1}", x(*step), y(*error)));
    points.collect::<Vec<_>>().join(" ")
}

fn decades(low: f64, high: f64) -> Vec<i32> {
    #[expect(clippy::cast_possible_truncation, reason = "exponents between -2 and 12")]
    let (low, high) = (low.round() as i32, high.round() as i32);
    let step = if high - low > 6 { 2 } else { 1 };
    (low..=high).filter(|decade| (decade - low) % step == 0).collect()
}

fn ticks(last: f64) -> Vec<f64> {
    let step = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0]
        .into_iter()
        .find(|step| last / step <= 11.0)
        .unwrap_or(1000.0);
    let mut ticks = vec![1.0];
    let mut next = step;
    while next <= last {
        if next > 1.0 {
            ticks.push(next);
        }
        next += step;
    }
    ticks
}

fn power(decade: i32) -> String {
    match decade {
        -2..=3 => format!("{}", 10_f64.powi(decade)),
        _ => format!("1e{decade}"),
    }
}
