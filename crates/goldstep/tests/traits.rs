//! Types can be sent, shared, cloned and shown where a user expects it.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::fmt::Debug;

use goldstep::cpu;
use goldstep::{
    AdafactorArguments, AdafactorState, Checkpoint, CheckpointError, Error, HostOptimizer,
    LearningRate, Parameter, ParameterList, Schedule, StepReport, Values,
};

fn send_sync_debug<T: Send + Sync + Debug + 'static>() {}

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
    send_sync_debug::<cpu::Adafactor<f32>>();
    send_sync_debug::<cpu::Adafactor<half::bf16>>();
    send_sync_debug::<goldstep_reference::Adafactor<f32>>();
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
