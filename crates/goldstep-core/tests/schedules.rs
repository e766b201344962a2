//! The rates of every schedule at every step, as tf.keras had them: the goldens of the family
//! `schedules`, of which this reads the rates alone.

use goldstep_core::LearningRate;
use serde_json::Value;

/// Schedules are chains of float32 operations whose `powf` and `cos` differ between libraries.
const ALLOWED: f64 = 8.0 / 8_388_608.0;

#[test]
fn rates_are_those_of_keras() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/v1/schedules/cases.jsonl");
    let lines = std::fs::read_to_string(path).expect("the goldens are in the repository");
    let (mut classes, mut compared) = (std::collections::BTreeSet::new(), 0);
    for line in lines.lines() {
        let case: Value = serde_json::from_str(line).expect("a case is an object");
        let config = |value: &Value| LearningRate::from_keras_config(value).expect("a rate");
        let mut rate = config(&case["arguments"]["learning_rate"]);
        for (iterations, step) in (0..).zip(case["steps"].as_array().expect("a list")) {
            if let Some(next) = step.get("learning_rate") {
                rate = config(next);
            }
            if let LearningRate::Schedule(schedule) = &rate {
                classes.insert(schedule.class_name());
            }
            let Some(expected) = step["expected"]["learning_rate"].as_f64() else { continue };
            let error = (f64::from(rate.at(iterations)) - expected).abs();
            assert!(error <= ALLOWED * expected.abs(), "{} step {iterations}", case["id"]);
            compared += 1;
        }
    }
    assert_eq!((classes.len(), compared > 300), (6, true), "{classes:?}, {compared} rates");
}
