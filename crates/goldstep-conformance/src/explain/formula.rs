//! What each quantity of a step is, for somebody who never saw the code.

use crate::agreement::Quantity;

/// The lines that compute a quantity, by their labels, and what they compute.
///
/// The labels stand at the ends of the lines of the reference's `adafactor.rs`, and the other
/// backends cite them. Without a label: what no line of the step computes.
pub(super) const fn formula(quantity: Quantity) -> Option<(&'static str, &'static str)> {
    Some(match quantity {
        Quantity::Refusal => return None,
        Quantity::Iterations => ("A20", "iterations + 1, once per step"),
        Quantity::LearningRate => ("A1", "learning_rate, a schedule at iterations before the step"),
        Quantity::ClippedGradient => {
            ("A2, A3", "the gradient after clipping, sparse rows then summed")
        }
        Quantity::R => ("A10", "row factor β₂ · r + (1 − β₂) · mean of g² + ε₁ over columns"),
        Quantity::C => ("A11", "column factor β₂ · c + (1 − β₂) · mean of g² + ε₁ over rows"),
        Quantity::V => ("A9, A12", "β₂ · v + (1 − β₂) · (g² + ε₁), from rank 2 r/mean(r) ⊗ c"),
        Quantity::ParameterRms => ("A4, A5", "root mean square of the variable after weight decay"),
        Quantity::Alpha => ("A6, A7", "step size max(ε₂, parameter rms) · min(lr, 1/√t)"),
        Quantity::Update => ("A13", "gradient g/√v before it is clipped by its rms"),
        Quantity::UpdateRms => ("A14", "root mean square of u"),
        Quantity::Variable => {
            ("A4, A15, A16, A18, A19", "variable x − α · u/max(1, update rms/clip_threshold)")
        }
        Quantity::Ema => ("A17", "average m · ema + (1 − m) · x of the updated variable"),
        Quantity::Finalized => ("", "variable after finalize_variable_values, which copies ema"),
    })
}

/// The intermediates that a quantity is computed from, which not every implementation shows.
pub(super) const fn causes(quantity: Quantity) -> &'static [Quantity] {
    match quantity {
        Quantity::R | Quantity::C | Quantity::V => &[Quantity::ClippedGradient],
        Quantity::Variable => {
            &[Quantity::ParameterRms, Quantity::Alpha, Quantity::Update, Quantity::UpdateRms]
        }
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn labels_are_those_of_the_reference() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let step = fs::read_to_string(crates.join("goldstep-reference/src/adafactor.rs")).unwrap();
        let comments = step.lines().filter_map(|line| line.rsplit_once("//"));
        let known: Vec<&str> = comments.map(|(_, comment)| comment.trim()).collect();
        for (labels, text) in Quantity::ALL.into_iter().filter_map(formula) {
            for label in labels.split(", ").filter(|label| !label.is_empty()) {
                assert!(known.contains(&label), "{label}: {text}");
            }
        }
    }
}
