//! Random cases, awkward values included; the same seed draws the same cases.

use goldstep_conformance::{GradientValues, Variable};
use goldstep_core::{Constraint, DType};
use serde_json::{Map, Value, json};

use super::draft::Draft;

/// Splitmix64: small, and the same on every machine.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below `limit`.
    #[expect(clippy::cast_possible_truncation, reason = "below a usize")]
    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// One time in `times`.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Uniform in [0, 1).
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Roughly normal: a sum of uniforms.
    fn normal(&mut self) -> f64 {
        (0..6).map(|_| self.uniform()).sum::<f64>() - 3.0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let index = self.below(from.len());
        &from[index]
    }
}

/// One case.
pub(super) fn draw(random: &mut Random) -> Draft {
    use DType::{Bfloat16, Float16, Float32, Float64};
    let dtype =
        *random.pick(&[Float32, Float32, Float32, Float32, Float64, Float64, Bfloat16, Float16]);
    let half = matches!(dtype, Bfloat16 | Float16);
    let mut arguments = arguments(random);
    // Squares of so small values are subnormal in float16, where Keras has a few bits of them and a
    // backend with state in float32 has all.
    if dtype == Float16 && arguments.get("clipvalue") == Some(&json!(1e-3)) {
        arguments.insert("clipvalue".to_owned(), json!(0.3));
    }
    let averaged = arguments.get("use_ema") == Some(&json!(true));
    let count = 1 + random.below(4);
    let variables: Vec<Variable> =
        (0..count).map(|index| variable(random, index, dtype, half)).collect();
    let steps = 1 + random.below(6);
    // tf.keras 2.12.1 pairs averages by position among the variables that have a gradient, which
    // the project does not follow: no averages where a gradient may be missing.
    let missing = !averaged && random.once_in(4);
    let steps = (0..steps)
        .map(|_| {
            let mut step: Vec<Option<GradientValues>> = variables
                .iter()
                .map(|variable| {
                    let absent = missing && random.once_in(3);
                    (!absent).then(|| gradient(random, variable, dtype, half))
                })
                .collect();
            if step.iter().all(Option::is_none) {
                step[0] = Some(gradient(random, &variables[0], dtype, half));
            }
            step
        })
        .collect();
    let exclude = if random.once_in(8) { vec!["v[02]".to_owned()] } else { Vec::new() };
    Draft { dtype, arguments, exclude, variables, steps }
}

fn arguments(random: &mut Random) -> Map<String, Value> {
    let mut arguments = Map::new();
    let mut set = |name: &str, value: Value| {
        arguments.insert(name.to_owned(), value);
    };
    set("learning_rate", learning_rate(random));
    if random.once_in(2) {
        set("beta_2_decay", json!(random.pick(&[-0.8, -0.65, -0.5, -1.0, -0.3])));
    }
    if random.once_in(3) {
        set("epsilon_1", json!(random.pick(&[1e-30, 1e-3, 1e-10, 1e-16])));
    }
    if random.once_in(3) {
        set("epsilon_2", json!(random.pick(&[1e-3, 0.05, 1.0, 1e-6])));
    }
    if random.once_in(3) {
        set("clip_threshold", json!(random.pick(&[1.0, 0.5, 0.1, 3.0])));
    }
    if random.once_in(3) {
        set("relative_step", json!(random.once_in(2)));
    }
    if random.once_in(3) {
        set("weight_decay", json!(random.pick(&[0.004, 0.04, 0.5, 0.0])));
    }
    match random.below(10) {
        0 => set("clipnorm", json!(random.pick(&[0.5, 1.0, 100.0, 0.0]))),
        1 => set("global_clipnorm", json!(random.pick(&[0.8, 2.0, 100.0]))),
        2 => set("clipvalue", json!(random.pick(&[0.3, 1e-3, 10.0]))),
        3 => {
            set("clipnorm", json!(0.5));
            set("clipvalue", json!(0.3));
        }
        _ => {}
    }
    if random.once_in(40) {
        set("clipnorm", json!(0.5));
        set("global_clipnorm", json!(0.5));
    }
    if random.once_in(3) {
        set("use_ema", json!(true));
        set("ema_momentum", json!(random.pick(&[0.99, 0.5, 0.0, 1.0, 0.9])));
        if random.once_in(2) {
            set("ema_overwrite_frequency", json!(1 + random.below(4)));
        }
    }
    arguments
}

fn learning_rate(random: &mut Random) -> Value {
    let rate = *random.pick(&[1e-3, 0.01, 0.1, 0.3, 0.9, 2.0, 1e-5]);
    let steps = *random.pick(&[1.0, 2.0, 3.0, 4.0]);
    match random.below(12) {
        0 => json!({"class_name": "ExponentialDecay", "config": {"initial_learning_rate": rate,
            "decay_steps": steps, "decay_rate": 0.7, "staircase": random.once_in(2)}}),
        1 => json!({"class_name": "CosineDecay", "config": {"initial_learning_rate": rate,
            "decay_steps": 4.0, "alpha": 0.1}}),
        2 => json!({"class_name": "PolynomialDecay", "config": {"initial_learning_rate": rate,
            "decay_steps": steps, "end_learning_rate": 1e-4, "power": 0.5, "cycle": false}}),
        _ => json!(rate),
    }
}

fn variable(random: &mut Random, index: usize, dtype: DType, half: bool) -> Variable {
    let rank = *random.pick(&[0, 1, 1, 2, 2, 2, 3, 4]);
    // The halves keep to reductions of at most 64 elements.
    let most = if half || rank > 2 { 4 } else { 20 };
    let shape: Vec<usize> = (0..rank)
        .map(|_| if half { 1 + random.below(3) } else { 1 + random.below(most) })
        .collect();
    let scale = *random.pick(&[1.0, 0.1, 1e-4, 10.0]);
    let elements = shape.iter().product();
    let initial = (0..elements).map(|_| dtype.round(random.normal() * scale)).collect();
    let constraint = match random.below(20) {
        0 => Some(Constraint::NonNegative),
        1 => Some(Constraint::Clip { minimum: -0.5, maximum: 0.5 }),
        _ => None,
    };
    Variable { name: format!("v{index}"), shape, initial, constraint }
}

fn gradient(random: &mut Random, variable: &Variable, dtype: DType, half: bool) -> GradientValues {
    let scale = if half { 1.0 } else { *random.pick(&[1.0, 1.0, 1e-3, 1e-8, 100.0]) };
    let values = |random: &mut Random, count: usize| -> Vec<f64> {
        let mut values: Vec<f64> =
            (0..count).map(|_| dtype.round(random.normal() * scale)).collect();
        // float16 makes of a zero beside the default epsilon_1 what only eager TF's order decides.
        if count > 0 && !half && random.once_in(10) {
            let awkward = [0.0, -0.0, 1e-16, 1e-40, f64::NAN, f64::INFINITY, 1e15, 1e-12];
            let at = random.below(count);
            values[at] = dtype.round(*random.pick(&awkward));
        }
        values
    };
    if !variable.shape.is_empty() && random.once_in(10) {
        let rows = variable.shape[0];
        let row: usize = variable.shape[1..].iter().product();
        let count = 1 + random.below(4);
        let index = |random: &mut Random| {
            if random.once_in(12) { -1 } else { i64::try_from(random.below(rows)).unwrap_or(0) }
        };
        let indices = (0..count).map(|_| index(random)).collect();
        return GradientValues::Sparse { indices, values: values(random, count * row) };
    }
    GradientValues::Dense(values(random, variable.initial.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_draws_the_same_cases() {
        let cases = |seed| {
            let mut random = Random::new(seed);
            (0..20).map(|_| format!("{:?}", draw(&mut random))).collect::<Vec<_>>()
        };
        assert_eq!(cases(7), cases(7));
        assert_ne!(cases(7), cases(8));
    }
}
