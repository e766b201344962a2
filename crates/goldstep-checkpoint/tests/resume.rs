//! A resumed run equals an uninterrupted one bit for bit, whatever was saved.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use goldstep_checkpoint::{Checkpoint, CheckpointError};
use goldstep_core::{
    AdafactorArguments, Constraint, Element, Gradient, HostOptimizer, LearningRate,
    LearningRateSchedule, Parameter, ParameterList, Schedule, SecondMomentUnderflow,
};
use goldstep_reference::Adafactor;
use half::{bf16, f16};
use proptest::prelude::*;

const STEPS: usize = 6;

/// A run: what it starts from and what happens in each step.
#[derive(Debug, Clone)]
struct Run {
    arguments: AdafactorArguments,
    parameters: ParameterList,
    initial: Vec<Vec<f32>>,
    /// By step and parameter; `None`: no gradient.
    gradients: Vec<Vec<Option<Vec<f32>>>>,
    /// Assigned before step 2, unless a schedule is in place.
    rate: f64,
    /// Steps before the checkpoint.
    split: usize,
}

prop_compose! {
    fn arguments()(
        rate in 0.001_f64..1.0,
        schedule in any::<bool>(),
        decay in prop::option::of(0.0_f64..0.5),
        clipvalue in prop::option::of(0.1_f64..2.0),
        use_ema in any::<bool>(),
        momentum in 0.0_f64..1.0,
        frequency in prop::option::of(1_u64..4),
        finite in any::<bool>(),
    ) -> AdafactorArguments {
        let rate = if schedule {
            Schedule::exponential_decay(rate, 2.0, 0.7, false).into()
        } else {
            LearningRate::Constant(rate)
        };
        AdafactorArguments::builder()
            .learning_rate(rate)
            .weight_decay(decay)
            .clipvalue(clipvalue)
            .use_ema(use_ema)
            .ema_momentum(momentum)
            .ema_overwrite_frequency(frequency)
            .second_moment_underflow(
                if finite { SecondMomentUnderflow::Finite } else { SecondMomentUnderflow::MatchKeras },
            )
            .build()
            .unwrap()
    }
}

fn parameters() -> impl Strategy<Value = ParameterList> {
    let parameter = (prop::collection::vec(0_usize..4, 0..4), any::<bool>(), 0..3);
    prop::collection::vec(parameter, 1..4).prop_map(|shapes| {
        let named = |(index, (shape, decays, constraint)): (usize, (Vec<usize>, bool, i32))| {
            let parameter = Parameter::new(format!("layer {index}/\"ä\""), &shape).unwrap();
            let parameter = if decays { parameter } else { parameter.without_weight_decay() };
            match constraint {
                0 => parameter.with_constraint(Constraint::NonNegative),
                1 => parameter.with_constraint(Constraint::Clip {
                    minimum: f64::NEG_INFINITY,
                    maximum: 0.75,
                }),
                _ => parameter,
            }
        };
        ParameterList::new(shapes.into_iter().enumerate().map(named).collect()).unwrap()
    })
}

fn runs() -> impl Strategy<Value = Run> {
    (arguments(), parameters(), 0.0_f64..1.0, 0..=STEPS).prop_flat_map(
        |(arguments, parameters, rate, split)| {
            let values = |p: &Parameter| prop::collection::vec(-2.0_f32..2.0, p.elements());
            let initial: Vec<_> = parameters.iter().map(values).collect();
            let step: Vec<_> =
                parameters.iter().map(|p| prop::option::weighted(0.8, values(p))).collect();
            let gradients = prop::collection::vec(step, STEPS);
            (initial, gradients).prop_map(move |(initial, gradients)| Run {
                arguments: arguments.clone(),
                parameters: parameters.clone(),
                initial,
                gradients,
                rate,
                split,
            })
        },
    )
}

fn convert<T: Element>(values: &[f32]) -> Vec<T> {
    values.iter().map(|value| T::round_from(f64::from(*value))).collect()
}

fn views<T>(values: &mut [Vec<T>]) -> Vec<&mut [T]> {
    values.iter_mut().map(Vec::as_mut_slice).collect()
}

impl Run {
    fn initial<T: Element>(&self) -> Vec<Vec<T>> {
        self.initial.iter().map(|values| convert(values)).collect()
    }

    fn steps<T: Element, O: HostOptimizer<T>>(
        &self,
        optimizer: &mut O,
        values: &mut [Vec<T>],
        steps: std::ops::Range<usize>,
    ) {
        for step in steps {
            let constant = matches!(self.arguments.learning_rate(), LearningRate::Constant(_));
            if step == 2 && constant {
                optimizer.set_learning_rate(self.rate.into()).unwrap();
            }
            let gradients: Vec<Option<Vec<T>>> =
                self.gradients[step].iter().map(|g| g.as_ref().map(|g| convert(g))).collect();
            let borrowed: Vec<Option<Gradient<'_, T>>> =
                gradients.iter().map(|g| g.as_deref().map(Gradient::Dense)).collect();
            // A step without any gradient is refused and changes nothing, in both runs alike.
            let outcome = optimizer.step(&mut views(values), &borrowed);
            assert_eq!(outcome.is_err(), borrowed.iter().all(Option::is_none));
        }
    }
}

fn bits<T: Element>(values: &[Vec<T>]) -> Vec<Vec<u64>> {
    values.iter().map(|v| v.iter().map(|x| x.to_f64().to_bits()).collect()).collect()
}

fn resumes<T: Element, O: HostOptimizer<T>>(run: &Run) {
    let mut whole = O::build(&run.arguments, &run.parameters).unwrap();
    let mut expected = run.initial::<T>();
    run.steps(&mut whole, &mut expected, 0..STEPS);

    let mut first = O::build(&run.arguments, &run.parameters).unwrap();
    let mut values = run.initial::<T>();
    run.steps(&mut first, &mut values, 0..run.split);
    let mut bytes = Vec::new();
    let slices: Vec<&[T]> = values.iter().map(Vec::as_slice).collect();
    let saved = Checkpoint::of(&first).unwrap().with_variables(&slices).unwrap();
    saved.write(&mut bytes).unwrap();
    drop(first);

    let loaded = Checkpoint::from_bytes(&bytes).unwrap();
    let mut again = Vec::new();
    loaded.write(&mut again).unwrap();
    assert_eq!(bytes, again, "a checkpoint that is written again has the same bytes");

    let mut second: O = loaded.restore(&run.parameters).unwrap();
    let mut resumed: Vec<Vec<T>> = values.iter().map(|v| vec![T::default(); v.len()]).collect();
    loaded.copy_variables_to(&mut views(&mut resumed)).unwrap();
    assert_eq!(bits(&resumed), bits(&values));
    run.steps(&mut second, &mut resumed, run.split..STEPS);
    assert_eq!(bits(&resumed), bits(&expected));

    let end = |optimizer: &O| {
        let mut bytes = Vec::new();
        Checkpoint::of(optimizer).unwrap().write(&mut bytes).unwrap();
        bytes
    };
    assert_eq!(end(&second), end(&whole), "the complete states have the same bits");
}

proptest! {
    #[test]
    fn reference_float32(run in runs()) {
        resumes::<f32, Adafactor<f32>>(&run);
    }

    #[test]
    fn reference_float64(run in runs()) {
        resumes::<f64, Adafactor<f64>>(&run);
    }

    #[test]
    fn reference_bfloat16(run in runs()) {
        resumes::<bf16, Adafactor<bf16>>(&run);
    }

    #[test]
    fn reference_float16(run in runs()) {
        resumes::<f16, Adafactor<f16>>(&run);
    }
}

proptest! {
    #[test]
    fn cpu_float32(run in runs()) {
        resumes::<f32, goldstep_cpu::Adafactor<f32>>(&run);
    }

    #[test]
    fn cpu_float64(run in runs()) {
        resumes::<f64, goldstep_cpu::Adafactor<f64>>(&run);
    }

    #[test]
    fn cpu_bfloat16(run in runs()) {
        resumes::<bf16, goldstep_cpu::Adafactor<bf16>>(&run);
    }

    #[test]
    fn cpu_float16(run in runs()) {
        resumes::<f16, goldstep_cpu::Adafactor<f16>>(&run);
    }
}

#[derive(Debug)]
struct Halving;

impl LearningRateSchedule for Halving {
    fn at(&self, iterations: u64) -> f32 {
        0.5_f32.powi(i32::try_from(iterations).unwrap())
    }
}

/// No file can hold a user's code: it has to be given again, and nothing runs without it.
#[test]
fn a_schedule_of_the_users_own_is_given_again() {
    let schedule = || LearningRate::Schedule(Schedule::custom(Halving));
    let arguments = AdafactorArguments::builder().learning_rate(schedule()).build().unwrap();
    let parameters = ParameterList::new(vec![Parameter::new("w", &[2]).unwrap()]).unwrap();
    let mut optimizer = Adafactor::<f32>::build(&arguments, &parameters).unwrap();
    let step = |optimizer: &mut Adafactor<f32>, w: &mut [f32]| {
        optimizer.step(&mut [w], &[Some(Gradient::Dense(&[0.5, -0.5]))]).unwrap().learning_rate
    };
    let mut w = [1.0, 2.0];
    step(&mut optimizer, &mut w);
    let mut bytes = Vec::new();
    Checkpoint::of(&optimizer).unwrap().write(&mut bytes).unwrap();

    let loaded = Checkpoint::from_bytes(&bytes).unwrap();
    let refused = loaded.restore::<f32, Adafactor<f32>>(&parameters);
    assert!(matches!(refused, Err(CheckpointError::CustomSchedule)));
    let number = loaded.clone().with_learning_rate(0.5.into());
    assert!(matches!(number, Err(CheckpointError::CustomSchedule)));
    let loaded = loaded.with_learning_rate(schedule()).unwrap();
    let mut resumed: Adafactor<f32> = loaded.restore(&parameters).unwrap();
    let rate = step(&mut resumed, &mut w);
    assert_eq!(rate.to_bits(), 0.5_f32.to_bits());
}

/// A half's state in float32 (as fast backends keep it) is rounded only where a backend keeps less.
#[test]
fn wide_states_of_halves_are_kept_in_the_file_and_rounded_by_narrow_backends() {
    use goldstep_core::{AdafactorState, DType, SecondMoment, Values, VariableState};
    let parameters = ParameterList::new(vec![Parameter::new("w", &[2]).unwrap()]).unwrap();
    let wide = Values::Float32(vec![0.1, 1e-30]);
    let second_moment = SecondMoment::Full(wide.clone());
    let variables = vec![VariableState { second_moment, average: None }];
    let state = AdafactorState { iterations: 3, variables };
    let arguments = AdafactorArguments::default();
    let types = [DType::Float16];
    let saved = Checkpoint::new(&arguments, &parameters, &types, state.clone()).unwrap();
    let mut bytes = Vec::new();
    saved.write(&mut bytes).unwrap();
    let loaded = Checkpoint::from_bytes(&bytes).unwrap();
    assert_eq!(loaded.state(), &state);
    let narrow: Adafactor<f16> = loaded.restore(&parameters).unwrap();
    let rounded = SecondMoment::Full(Values::Float16(wide.to_vec()));
    assert_eq!(narrow.state().variables[0].second_moment, rounded);

    let wider = AdafactorState {
        iterations: 3,
        variables: vec![VariableState {
            second_moment: SecondMoment::Full(Values::Float64(vec![0.1, 0.2])),
            average: None,
        }],
    };
    let refused = Checkpoint::new(&arguments, &parameters, &types, wider).unwrap_err();
    let message = "tensor second_moment/w must be of type float16 or float32, got float64";
    assert_eq!(refused.to_string(), message);
}
