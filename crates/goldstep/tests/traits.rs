//! Types can be sent, shared, cloned and shown where a user expects it.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::fmt::Debug;

use goldstep::cpu;
use goldstep::{
    AdafactorArguments, AdafactorArgumentsBuilder, AdafactorState, Checkpoint, CheckpointError,
    Constraint, DType, EmaArguments, Error, Gradient, GradientClipping, HostOptimizer,
    Intermediates, LearningRate, Parameter, ParameterList, Schedule, SecondMoment,
    SecondMomentUnderflow, StepReport, Values, VariableState,
};

fn send_sync_debug<T: Send + Sync + Debug + 'static>() {}

fn optimizer<T: Send + Sync + Debug + Clone + 'static>() {}

fn value<T: Send + Sync + Debug + Clone + PartialEq + 'static>() {}

fn error<T: std::error::Error + Send + Sync + 'static>() {}

#[test]
fn auto_traits_hold() {
    value::<AdafactorArguments>();
    value::<AdafactorState>();
    value::<Checkpoint>();
    value::<LearningRate>();
    value::<Parameter>();
    value::<ParameterList>();
    value::<Schedule>();
    value::<StepReport>();
    value::<Values>();
    value::<Constraint>();
    value::<DType>();
    value::<EmaArguments>();
    value::<Gradient<'static, f32>>();
    value::<GradientClipping>();
    value::<Intermediates>();
    value::<SecondMoment>();
    value::<SecondMomentUnderflow>();
    value::<VariableState>();
    optimizer::<cpu::Adafactor<f32>>();
    optimizer::<cpu::Adafactor<half::bf16>>();
    optimizer::<goldstep_reference::Adafactor<f32>>();
    optimizer::<AdafactorArgumentsBuilder>();
    send_sync_debug::<cpu::ParameterStore<'static, f32>>();
    error::<Error>();
    error::<CheckpointError>();
}

/// The one way to construct an optimizer of any backend.
fn build<O: HostOptimizer<f32>>() -> O {
    let parameters = ParameterList::new(vec![Parameter::new("w", &[2, 3]).unwrap()]).unwrap();
    O::build(&AdafactorArguments::default(), &parameters).unwrap()
}

#[test]
fn an_optimizer_moves_to_another_thread() {
    let optimizer: cpu::Adafactor<f32> = build();
    assert_eq!(build::<goldstep_reference::Adafactor<f32>>().iterations(), 0);
    let iterations = std::thread::spawn(move || optimizer.iterations()).join().unwrap();
    assert_eq!(iterations, 0);
}

/// One step of a 2 × 3 parameter that starts as it came.
fn step(optimizer: &mut impl HostOptimizer<f32>, w: &mut [f32]) {
    let gradient = [0.5, -1.0, 2.0, 0.25, 3.0, -0.5];
    optimizer.step(&mut [w], &[Some(Gradient::Dense(&gradient))]).unwrap();
}

#[test]
fn a_clone_continues_on_its_own() {
    let parameters = ParameterList::new(vec![Parameter::new("w", &[2, 3]).unwrap()]).unwrap();
    let arguments = AdafactorArguments::builder().use_ema(true).build().unwrap();
    let build = cpu::Adafactor::builder(&arguments, &parameters).threads(2);
    let mut original: cpu::Adafactor<f32> = build.build().unwrap();
    let mut w = [1.0_f32, -2.0, 3.0, 0.5, 0.0, 4.0];
    step(&mut original, &mut w);
    let (mut clone, mut again, before) = (original.clone(), w, original.state());
    step(&mut clone, &mut again);
    assert_eq!(original.state(), before);
    step(&mut original, &mut w);
    assert_eq!((original.state(), w.map(f32::to_bits)), (clone.state(), again.map(f32::to_bits)));
}
