//! Random lists, arguments and gradients for the tests of this crate.
#![allow(dead_code, reason = "each test file uses a part")]

use goldstep_core::{
    AdafactorArguments, AdafactorState, Element, Gradient, HostOptimizer, Parameter, ParameterList,
    SecondMoment, Values,
};
use proptest::prelude::*;

/// That many random cases, or as many as `PROPTEST_CASES` says: under valgrind few are enough.
pub(crate) fn config(cases: u32) -> ProptestConfig {
    let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|wanted| wanted.parse().ok());
    ProptestConfig {
        cases: wanted.unwrap_or(cases),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// A deterministic stream of numbers.
#[derive(Debug, Clone)]
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    /// 32 random bits (SplitMix64).
    pub(crate) fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z >> 32) as u32
    }

    /// Uniform in (−1, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        f64::from(self.bits()) / f64::from(1_u32 << 31) - 1.0
    }

    /// `length` of them, times `scale`.
    pub(crate) fn tensor<T: Element>(&mut self, length: usize, scale: f64) -> Vec<T> {
        (0..length).map(|_| T::round_from(self.uniform() * scale)).collect()
    }
}

/// A gradient that the test owns.
#[derive(Debug, Clone)]
pub(crate) enum Owned<T> {
    Dense(Vec<T>),
    Sparse(Vec<i64>, Vec<T>),
}

impl<T> Owned<T> {
    pub(crate) fn borrow(&self) -> Gradient<'_, T> {
        match self {
            Self::Dense(values) => Gradient::Dense(values),
            Self::Sparse(indices, values) => Gradient::Sparse { indices, values },
        }
    }
}

/// A list of shapes, arguments, and what the gradients look like.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) shapes: Vec<Vec<usize>>,
    pub(crate) arguments: AdafactorArguments,
    pub(crate) steps: usize,
    pub(crate) seed: u64,
    pub(crate) gradient_scale: f64,
    /// Whether gradients may be missing, sparse, or have zero rows.
    pub(crate) irregular: bool,
    /// Powers of ten by which the columns of a gradient are larger or smaller at most.
    pub(crate) spread: f64,
}

impl Case {
    pub(crate) fn list(&self) -> ParameterList {
        let parameters = self.shapes.iter().enumerate();
        let parameters =
            parameters.map(|(i, shape)| Parameter::new(format!("p{i}"), shape).unwrap());
        ParameterList::new(parameters.collect()).unwrap()
    }

    pub(crate) fn initial<T: Element>(&self) -> Vec<Vec<T>> {
        let mut numbers = Numbers(self.seed);
        self.list().iter().map(|p| numbers.tensor(p.elements(), 1.5)).collect()
    }

    /// The gradients of all steps.
    pub(crate) fn gradients<T: Element>(&self) -> Vec<Vec<Option<Owned<T>>>> {
        let mut numbers = Numbers(self.seed ^ 0xfeed);
        let list = self.list();
        let mut one = |parameter: &Parameter, first: bool| {
            let kind = numbers.bits() % 8;
            let scale = self.gradient_scale * (1.0 + f64::from(kind));
            let rows = parameter.shape().first().copied().unwrap_or(0);
            if self.irregular && kind == 0 && !first {
                return None;
            }
            if self.irregular && kind == 1 && rows > 0 {
                let most = if numbers.bits().is_multiple_of(2) { 5 } else { rows };
                let count = numbers.bits() as usize % most;
                let index = |numbers: &mut Numbers| i64::from(numbers.bits()) % rows as i64;
                let mut indices: Vec<i64> = (0..count).map(|_| index(&mut numbers)).collect();
                indices.push(-1);
                let values = numbers.tensor(indices.len() * parameter.row_elements(), scale);
                return Some(Owned::Sparse(indices, values));
            }
            let mut values: Vec<T> = numbers.tensor(parameter.elements(), scale);
            if self.spread > 0.0 {
                let columns = parameter.shape().last().copied().unwrap_or(1).max(1);
                let powers: Vec<f64> =
                    (0..columns).map(|_| 10.0_f64.powf(self.spread * numbers.uniform())).collect();
                for (value, power) in values.iter_mut().zip(powers.iter().cycle()) {
                    *value = T::round_from(value.to_f64() * power);
                }
            }
            if self.irregular && kind == 2 && rows > 1 {
                values[..parameter.row_elements()].fill(T::default());
            }
            Some(Owned::Dense(values))
        };
        let step = |_| list.iter().enumerate().map(|(i, p)| one(p, i == 0)).collect();
        (0..self.steps).map(step).collect()
    }

    /// Runs an optimizer over all steps and returns parameters and state.
    pub(crate) fn run<T: Element, O: HostOptimizer<T>>(
        &self,
        mut optimizer: O,
    ) -> (Vec<Vec<T>>, AdafactorState) {
        let mut parameters = self.initial::<T>();
        for gradients in self.gradients::<T>() {
            let mut views: Vec<&mut [T]> = parameters.iter_mut().map(|p| &mut p[..]).collect();
            let gradients: Vec<_> =
                gradients.iter().map(|g| g.as_ref().map(Owned::borrow)).collect();
            optimizer.step(&mut views, &gradients).unwrap();
        }
        (parameters, optimizer.state())
    }
}

/// Bits, with all NaN alike.
pub(crate) fn bits<T: Element>(values: &[T]) -> Vec<u64> {
    values
        .iter()
        .map(|value| value.to_f64())
        .map(|value| if value.is_nan() { u64::MAX } else { value.to_bits() })
        .collect()
}

pub(crate) fn state_bits(state: &AdafactorState) -> Vec<Vec<u64>> {
    let values = |values: &Values| bits(&values.to_vec::<f64>());
    let mut all = vec![vec![state.iterations]];
    for variable in &state.variables {
        match &variable.second_moment {
            SecondMoment::Full(v) => all.push(values(v)),
            SecondMoment::Factored { row_factor, column_factor } => {
                all.push(values(row_factor));
                all.push(values(column_factor));
            }
        }
        all.extend(variable.average.iter().map(values));
    }
    all
}

/// Shapes of every rank, around the lengths of vectors and of blocks.
pub(crate) fn shape() -> impl Strategy<Value = Vec<usize>> {
    let length = prop_oneof![1..4_usize, 14..19_usize, 30..35_usize, 62..67_usize, 1..200_usize];
    prop_oneof![
        1 => Just(vec![]),
        2 => prop_oneof![1..200_usize, 65_530..65_545_usize, 131_065..131_080_usize]
            .prop_map(|n| vec![n]),
        6 => (length.clone(), length.clone()).prop_map(|(m, n)| vec![m, n]),
        1 => (1..4_usize, 16_390..16_460_usize).prop_map(|(m, n)| vec![m, n]),
        1 => (250..600_usize, 250..600_usize).prop_map(|(m, n)| vec![m, n]),
        1 => (1..40_usize, 1_000..2_200_usize).prop_map(|(m, n)| vec![m, n]),
        1 => (1..9_usize, 20_000..40_000_usize).prop_map(|(m, n)| vec![m, n]),
        1 => (4_000..20_000_usize, 1..20_usize).prop_map(|(m, n)| vec![m, n]),
        2 => (1..5_usize, 1..40_usize, 1..40_usize).prop_map(|(b, m, n)| vec![b, m, n]),
        1 => (1..60_usize, 1..60_usize, 1..4_usize, 1..4_usize).prop_map(|(a, b, m, n)| vec![a, b, m, n]),
        1 => (14..70_usize, 1..5_usize, 1..9_usize).prop_map(|(b, m, n)| vec![b, m, n]),
        // More matrices than one task takes.
        1 => (70..120_usize, 80..90_usize).prop_map(|(a, b)| vec![a, b, 3, 3]),
        1 => (2..4_usize, 150..200_usize, 250..300_usize).prop_map(|(b, m, n)| vec![b, m, n]),
        1 => prop_oneof![Just(vec![0]), Just(vec![0, 3]), Just(vec![3, 0]), Just(vec![2, 0, 3])],
    ]
}

pub(crate) fn arguments() -> impl Strategy<Value = AdafactorArguments> {
    let clipping = prop_oneof![
        3 => Just((None, None, None)),
        1 => (0.1..5.0).prop_map(|c| (Some(c), None, None)),
        1 => (0.1..5.0).prop_map(|c| (None, Some(c), None)),
        1 => (0.1..1.0).prop_map(|c| (None, None, Some(c))),
    ];
    let ema = prop_oneof![2 => Just(None), 1 => (0.0..1.0, 0..4_u64).prop_map(Some)];
    let decay = prop_oneof![1 => Just(None), 1 => (0.0..0.5).prop_map(Some)];
    // Beside the default one that lets squares near the end of the normal range matter.
    let epsilon_1 = prop_oneof![6 => Just(1e-30), 1 => Just(1e-33), 1 => Just(1e-36)];
    let threshold = prop_oneof![Just(1.0), 0.01..2.0];
    (clipping, ema, decay, 0.01..1.0, threshold, epsilon_1).prop_map(
        |((clipnorm, global, clipvalue), ema, decay, rate, threshold, epsilon_1)| {
            let builder = AdafactorArguments::builder()
                .learning_rate(rate)
                .clip_threshold(threshold)
                .epsilon_1(epsilon_1)
                .clipnorm(clipnorm)
                .global_clipnorm(global)
                .clipvalue(clipvalue)
                .weight_decay(decay);
            let builder = match ema {
                Some((momentum, frequency)) => builder
                    .use_ema(true)
                    .ema_momentum(momentum)
                    .ema_overwrite_frequency(Some(frequency)),
                None => builder,
            };
            builder.build().unwrap()
        },
    )
}

pub(crate) fn case() -> impl Strategy<Value = Case> {
    let shapes = prop::collection::vec(shape(), 1..6);
    let scale = prop_oneof![4 => Just(0.1), 1 => Just(1e-8), 1 => Just(1e-19), 1 => Just(1e4)];
    let spread = prop_oneof![4 => Just(0.0), 1 => 1.0..14.0_f64];
    (shapes, arguments(), 1..5_usize, any::<u64>(), scale, any::<bool>(), spread).prop_map(
        |(shapes, arguments, steps, seed, gradient_scale, irregular, spread)| {
            // With a smaller epsilon_1 it shows which squares are flushed, and that may turn on the
            // last digit of a norm.
            let spread = if arguments.epsilon_1() < 1e-30 { 0.0 } else { spread };
            Case { shapes, arguments, steps, seed, gradient_scale, irregular, spread }
        },
    )
}
