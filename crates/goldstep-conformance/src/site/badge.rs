//! A badge for a README.

use maud::{Markup, html};

use super::{Dossier, Standing};
use crate::run::FamilyReport;

/// `goldstep | 3 of 3 agree`; green only if something was judged of each family that there is, chosen
/// or not.
pub(super) fn badge(dossier: &Dossier<'_>) -> Markup {
    let all = dossier.entries.len();
    let agreeing =
        dossier.entries.iter().filter(|entry| entry.report.agrees() && !entry.report.is_broken());
    let agreeing = agreeing.count();
    let families = || dossier.entries.iter().flat_map(|entry| &entry.report.families);
    let is_judged = |family: &&FamilyReport| Standing::of(Some(*family)) != Standing::Skipped;
    let judged = families().filter(is_judged).count();
    let wanted = all * dossier.golden.families().len();
    let whole = judged == wanted;
    let right = match (agreeing, all) {
        (1, 1) if whole => "agrees with tf.keras".to_owned(),
        (1, 1) => format!("agrees in {judged} of {wanted} families"),
        (0, 1) if judged == 0 => "not judged".to_owned(),
        (0, 1) if dossier.entries.iter().all(|entry| entry.report.agrees()) => {
            "no usable answer".to_owned()
        }
        (0, 1) => "differs from tf.keras".to_owned(),
        _ => format!("{agreeing} of {all} agree with tf.keras"),
    };
    let color = match agreeing == all {
        true if whole => "#1a7f37",
        true => "#8a5a00",
        false => "#b42318",
    };
    let (left_width, right_width) = (64, 12 + right.len() * 65 / 10);
    let width = left_width + right_width;
    let label = format!("goldstep: {right}");
    html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(width) height="20" role="img" aria-label=(label) {
            title { (label) }
            rect width=(width) height="20" rx="3" fill="#24292f" {}
            path d={ "M" (left_width) " 0h" (right_width - 3) "a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3h-" (right_width - 3) "z" } fill=(color) {}
            g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle" {
                text x=(left_width / 2) y="14" { "goldstep" }
                text x=(left_width + right_width / 2) y="14" textLength=(right_width - 12) lengthAdjust="spacingAndGlyphs" { (right) }
            }
        }
    }
}
