//! A bar per contestant, as SVG.

use std::fmt::Write as _;

use super::{figure, per_parameter};
use crate::plan::PEERS;
use crate::record::Results;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 250.0;
const BAR: f64 = 18.0;
const GAP: f64 = 8.0;
const TOP: f64 = 44.0;

/// A bar of nanoseconds per parameter for everybody on one row, the fastest first.
#[must_use]
pub fn plot(results: &Results, row: &str, threads: usize) -> String {
    let mut bars: Vec<(String, f64, &str)> = Vec::new();
    let mut add = |title: &str, name: &str, peer: Option<&str>, colour: &'static str| {
        let found = results.block(row, threads, peer);
        if let Some((block, entrant)) = found.and_then(|block| Some((block, block.entrant(name)?)))
            && results.complaint(name, block, entrant).is_none()
        {
            bars.push((title.to_owned(), per_parameter(block, entrant), colour));
        }
    };
    add("least memory traffic", "bound", None, "#bbbbbb");
    add("goldstep, cpu", "cpu", None, "#b8860b");
    add("goldstep, torch", "torch", None, "#daa520");
    for peer in &PEERS {
        let colour = if peer.dialect.is_adafactor() { "#4682b4" } else { "#708090" };
        add(peer.title, peer.name, Some(peer.name), colour);
    }
    bars.sort_by(|left, right| left.1.total_cmp(&right.1));
    let longest = bars.iter().map(|bar| bar.1).fold(0.0, f64::max);
    let height = TOP + crate::measure::to_f64(bars.len()) * (BAR + GAP) + GAP;
    let title = format!("{row}, {}", super::threads_phrase(threads));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{GAP}\" y=\"24\" font-size=\"15\">{title}: nanoseconds per parameter and step\
         </text>\n"
    );
    for (index, (name, value, colour)) in bars.iter().enumerate() {
        let y = TOP + crate::measure::to_f64(index) * (BAR + GAP);
        let length = (WIDTH - LEFT - 60.0) * value / longest;
        let text = y + BAR - 5.0;
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{name}</text>\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{text}\">{}</text>",
            LEFT - 8.0,
            LEFT + length + 5.0,
            figure(*value),
        );
    }
    svg.push_str("</svg>\n");
    svg
}
