//! `cargo xtask plots`: the figures of the guide, drawn from what the library computes.

mod figures;

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, bail, ensure};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::workspace_root;
use figures::{Figure, Line};

const FOLDER: &str = "crates/goldstep/guide/plots";
const SIZE: (u32, u32) = (640, 320);
/// Distinguishable for colour-blind readers (Okabe and Ito).
const COLORS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(213, 94, 0),
    RGBColor(86, 180, 233),
];

/// Draw the figures of the guide.
#[derive(Debug, clap::Args)]
pub(crate) struct Plots {
    /// Only compare with the figures that are there
    #[arg(long)]
    check: bool,
}

impl Plots {
    pub(crate) fn run(&self) -> Result<()> {
        let folder = workspace_root().join(FOLDER);
        fs::create_dir_all(&folder)
            .with_context(|| format!("{} cannot be created", folder.display()))?;
        let mut stale = Vec::new();
        let figures = figures::all()?;
        for figure in &figures {
            let path = folder.join(format!("{}.svg", figure.name));
            let html = draw(figure)?;
            if fs::read_to_string(&path).is_ok_and(|current| current == html) {
                continue;
            }
            stale.push(figure.name);
            if !self.check {
                fs::write(&path, html)
                    .with_context(|| format!("{} cannot be written", path.display()))?;
            }
        }
        ensure!(!self.check || stale.is_empty(), "{} must be drawn again: {stale:?}", FOLDER);
        println!("plots: {} figures, {} drawn anew", figures.len(), stale.len());
        Ok(())
    }
}

/// An HTML block without a blank line but the one at its end, as Markdown wants it around an SVG.
fn draw(figure: &Figure) -> Result<String> {
    let mut svg = String::new();
    let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let points = || figure.lines.iter().flat_map(|line| &line.points);
    let x = bounds(points().map(|(x, _)| *x), figure.log_x)?;
    let y = bounds(points().map(|(_, y)| *y), figure.log_y)?;
    // The axes are linear in what is drawn; a logarithmic one shows powers of ten.
    let scaled = |(x, y): &(f64, f64)| (scale(*x, figure.log_x), scale(*y, figure.log_y));
    draw_lines(&root, figure, x, y, scaled)?;
    root.present()?;
    drop(root);
    let mut html = String::from("<div style=\"max-width: 640px\">\n");
    for line in svg.lines().filter(|line| !line.trim().is_empty()) {
        writeln!(html, "{}", line.trim_end())?;
    }
    // The blank line ends the block: what follows is Markdown again.
    html.push_str("</div>\n\n");
    Ok(html)
}

fn draw_lines(
    root: &DrawingArea<SVGBackend<'_>, Shift>,
    figure: &Figure,
    x: std::ops::Range<f64>,
    y: std::ops::Range<f64>,
    scaled: impl Fn(&(f64, f64)) -> (f64, f64),
) -> Result<()> {
    let mut chart = ChartBuilder::on(root)
        .caption(figure.title, ("sans-serif", 20))
        .margin(8)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(x, y)?;
    let power = |log: bool| {
        move |value: &f64| if log { format!("{:.0e}", 10_f64.powf(*value)) } else { short(*value) }
    };
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .label_style(("sans-serif", 16))
        .x_desc(figure.x)
        .y_desc(figure.y)
        .x_label_formatter(&power(figure.log_x))
        .y_label_formatter(&power(figure.log_y))
        .draw()?;
    for (Line { label, points }, color) in figure.lines.iter().zip(COLORS) {
        let finite = points.iter().map(&scaled).filter(|(x, y)| x.is_finite() && y.is_finite());
        chart
            .draw_series(LineSeries::new(finite, color.stroke_width(2)))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .label_font(("sans-serif", 15))
        .position(figure.legend.clone())
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.2))
        .draw()?;
    Ok(())
}

fn scale(value: f64, log: bool) -> f64 {
    if log { value.log10() } else { value }
}

fn bounds(values: impl Iterator<Item = f64>, log: bool) -> Result<std::ops::Range<f64>> {
    let values = values.map(|value| scale(value, log)).filter(|value| value.is_finite());
    let (least, most) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    if least >= most {
        bail!("a figure needs two different values, got {least} to {most}");
    }
    let room = 0.03 * (most - least);
    Ok(least - room..most + room)
}

/// A number without digits that say nothing.
fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise rustdoc shows the headings and links after a figure as they are written.
    #[test]
    fn a_figure_is_one_block_of_html() {
        let line = |slope: f64| Line {
            label: format!("slope {slope}"),
            points: vec![(1.0, slope), (10.0, 10.0 * slope)],
        };
        let figure = Figure {
            name: "lines",
            title: "Two lines",
            x: "x",
            y: "y",
            log_x: true,
            log_y: false,
            legend: SeriesLabelPosition::UpperLeft,
            lines: vec![line(1.0), line(2.0)],
        };
        let html = draw(&figure).unwrap();
        assert_eq!(html.matches("stroke-width=\"2\"").count(), 4, "two lines and their legends");
        assert_eq!(html.find("\n\n"), Some(html.len() - 2), "no blank line but the last");
    }
}
