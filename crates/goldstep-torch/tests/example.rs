//! The example reaches the loss that the README states.

#[expect(dead_code, reason = "the example's own main is not called")]
#[path = "../examples/shapes/main.rs"]
mod shapes;

/// The README says that the held-out loss is below this; guessing has 1.386.
const LOSS: f64 = 0.15;
const README: &str = include_str!("../../../README.md");

#[test]
fn the_example_learns() {
    assert!(README.contains(&format!("is below {LOSS};")), "the README must state {LOSS}");
    let mut losses = Vec::new();
    let (loss, accuracy) = shapes::train(400, |_, loss| losses.push(loss)).unwrap();
    assert!(losses[0] > 1.2, "before training: {losses:?}");
    assert!(loss < LOSS, "{loss}, on the way {losses:?}");
    assert!(accuracy > 0.95, "{accuracy}");
}
