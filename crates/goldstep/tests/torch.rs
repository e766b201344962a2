//! Checkpoints of the libtorch backend, and between it and the cpu backend.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use goldstep::torch::tch::{Device, Kind, Tensor, nn};
use goldstep::torch::{self, Adafactor, Gradient, Optimizer};
use goldstep::{
    AdafactorArguments, Checkpoint, Constraint, HostOptimizer, Parameter, ParameterList, Schedule,
    SecondMomentUnderflow, cpu,
};
use half::{bf16, f16};
use proptest::prelude::*;

const SHAPES: [&[usize]; 4] = [&[], &[5], &[3, 4], &[2, 3, 2]];
const STEPS: usize = 6;

fn parameters() -> ParameterList {
    let mut list: Vec<Parameter> = (SHAPES.iter().enumerate())
        .map(|(index, shape)| Parameter::new(format!("layer {index}"), shape).unwrap())
        .collect();
    list[1] = list[1].clone().without_weight_decay();
    list[2] = list[2].clone().with_constraint(Constraint::NonNegative);
    ParameterList::new(list).unwrap()
}

fn tensor(shape: &[usize], values: &[f64], kind: Kind) -> Tensor {
    let shape: Vec<i64> = shape.iter().map(|size| i64::try_from(*size).unwrap()).collect();
    Tensor::from_slice(values).to_kind(kind).reshape(shape)
}

fn values(parameters: &ParameterList, seed: u32) -> Vec<Vec<f64>> {
    let mut next = seed;
    let mut one = || {
        next = next.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(next >> 8) / f64::from(1 << 23) - 1.0
    };
    parameters.iter().map(|p| (0..p.elements()).map(|_| one()).collect()).collect()
}

fn tensors(parameters: &ParameterList, seed: u32, kind: Kind) -> Vec<Tensor> {
    let values = values(parameters, seed);
    parameters.iter().zip(values).map(|(p, values)| tensor(p.shape(), &values, kind)).collect()
}

fn arguments(schedule: bool, use_ema: bool, decay: f64) -> AdafactorArguments {
    let builder = AdafactorArguments::builder().weight_decay(decay).use_ema(use_ema);
    let builder = builder.ema_overwrite_frequency(use_ema.then_some(3));
    if schedule {
        builder.learning_rate(Schedule::exponential_decay(0.3, 2.0, 0.7, false)).build().unwrap()
    } else {
        builder.learning_rate(0.2).build().unwrap()
    }
}

/// Steps of a run; some parameters lack a gradient, and a number is assigned once.
fn steps(optimizer: &mut Adafactor, range: std::ops::Range<usize>, kind: Kind, seed: u32) {
    let parameters = optimizer.parameters().clone();
    for step in range {
        let assigned = optimizer.arguments().learning_rate().clone();
        if step == 2 && matches!(assigned, goldstep::LearningRate::Constant(_)) {
            optimizer.set_learning_rate(0.07.into()).unwrap();
        }
        let gradients = tensors(&parameters, seed + u32::try_from(step).unwrap() + 1, kind);
        let missing = (step + 1) % (SHAPES.len() + 1);
        let gradients: Vec<_> = (gradients.into_iter().enumerate())
            .map(|(index, tensor)| (index != missing).then_some(Gradient::Tensor(tensor)))
            .collect();
        optimizer.step(&gradients).unwrap();
    }
}

fn bytes(checkpoint: &Checkpoint) -> Vec<u8> {
    let mut bytes = Vec::new();
    checkpoint.write(&mut bytes).unwrap();
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_resumed_run_equals_an_uninterrupted_one(
        schedule in any::<bool>(),
        use_ema in any::<bool>(),
        decay in 0.0_f64..0.5,
        seed in 0_u32..1 << 20,
        split in 0..=STEPS,
        kind in prop::sample::select(&[Kind::Double, Kind::Float, Kind::BFloat16, Kind::Half][..]),
    ) {
        let (list, arguments) = (parameters(), arguments(schedule, use_ema, decay));
        let run = || Adafactor::new(&arguments, &list, &tensors(&list, seed, kind)).unwrap();
        let (mut whole, mut first) = (run(), run());
        steps(&mut whole, 0..STEPS, kind, seed);
        steps(&mut first, 0..split, kind, seed);
        let file = bytes(&torch::checkpoint(&first).unwrap());
        drop(first);

        let checkpoint = Checkpoint::from_bytes(&file).unwrap();
        let fresh = tensors(&list, 1, kind);
        let mut second = torch::restore(&checkpoint, &list, &fresh).unwrap();
        assert_eq!(bytes(&torch::checkpoint(&second).unwrap()), file);
        steps(&mut second, split..STEPS, kind, seed);
        let end = bytes(&torch::checkpoint(&whole).unwrap());
        assert_eq!(bytes(&torch::checkpoint(&second).unwrap()), end);
    }
}

/// Saved from cpu, loaded on libtorch, saved there and loaded on cpu: the same bytes each time.
fn crosses<T: cpu::CpuElement>(kind: Kind) {
    let (list, arguments) = (parameters(), arguments(false, true, 0.1));
    let round = |values: Vec<Vec<f64>>| -> Vec<Vec<T>> {
        values.iter().map(|v| v.iter().map(|x| T::round_from(*x)).collect()).collect()
    };
    let mut x = round(values(&list, 1));
    let mut optimizer = cpu::Adafactor::<T>::build(&arguments, &list).unwrap();
    let step = |optimizer: &mut cpu::Adafactor<T>, x: &mut Vec<Vec<T>>, seed| {
        let gradients = round(values(&list, seed));
        let gradients: Vec<_> =
            gradients.iter().map(|g| Some(goldstep::Gradient::Dense(&g[..]))).collect();
        let mut x: Vec<&mut [T]> = x.iter_mut().map(Vec::as_mut_slice).collect();
        optimizer.step(&mut x, &gradients).unwrap();
    };
    (2..5).for_each(|seed| step(&mut optimizer, &mut x, seed));
    let slices: Vec<&[T]> = x.iter().map(Vec::as_slice).collect();
    let saved = Checkpoint::of(&optimizer).unwrap().with_variables(&slices).unwrap();

    let loaded = Checkpoint::from_bytes(&bytes(&saved)).unwrap();
    let mut on_torch = torch::restore(&loaded, &list, &tensors(&list, 9, kind)).unwrap();
    let from_torch = torch::checkpoint(&on_torch).unwrap();
    assert_eq!(bytes(&from_torch), bytes(&saved), "every bit survives the way to libtorch");
    let back: cpu::Adafactor<T> = from_torch.restore(&list).unwrap();
    assert_eq!(back.state(), optimizer.state());

    // Both go on with the same gradient and agree within the rule for a free run's steps.
    let gradient = tensors(&list, 5, kind).into_iter().map(|g| Some(Gradient::Tensor(g)));
    on_torch.step(&gradient.collect::<Vec<_>>()).unwrap();
    step(&mut optimizer, &mut x, 5);
    assert_eq!(on_torch.iterations(), optimizer.iterations());
    for (theirs, ours) in on_torch.variables().unwrap().iter().zip(&x) {
        let theirs = theirs.to_vec::<f64>();
        let scale = theirs.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
        let allowed = (4.0 + 0.25) * T::DTYPE.epsilon() * scale;
        for (theirs, ours) in theirs.iter().zip(ours) {
            let difference = (theirs - ours.to_f64()).abs();
            assert!(difference <= allowed, "{difference:e} of {allowed:e} allowed");
        }
    }

    // What libtorch computed itself also survives the way back.
    let saved = torch::checkpoint(&on_torch).unwrap();
    let back: cpu::Adafactor<T> = saved.restore(&list).unwrap();
    saved.copy_variables_to(&mut x.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
    let slices: Vec<&[T]> = x.iter().map(Vec::as_slice).collect();
    let on_cpu = Checkpoint::of(&back).unwrap().with_variables(&slices).unwrap();
    assert_eq!(bytes(&on_cpu), bytes(&saved), "every bit survives the way to the cpu backend");
}

#[test]
fn checkpoints_cross_between_cpu_and_libtorch() {
    crosses::<f64>(Kind::Double);
    crosses::<f32>(Kind::Float);
    crosses::<bf16>(Kind::BFloat16);
    crosses::<f16>(Kind::Half);
}

fn store() -> (nn::VarStore, Tensor) {
    let store = nn::VarStore::new(Device::Cpu);
    let w = fill(&store);
    (store, w)
}

fn fill(store: &nn::VarStore) -> Tensor {
    let w = store.root().var("w", &[2, 3], nn::Init::Const(1.0));
    let _ = store.root().var("bias", &[3], nn::Init::Const(0.5));
    w
}

#[test]
fn a_var_store_goes_on_from_a_file() {
    let arguments = arguments(false, true, 0.1);
    let (first, w) = store();
    let mut optimizer = Optimizer::new(&first, &arguments).unwrap();
    optimizer.exclude_from_weight_decay(&["bias"]).unwrap();
    optimizer.set_lr(0.05).unwrap();
    optimizer.set_weight_decay(0.02).unwrap();
    optimizer.backward_step(&w.square().sum(Kind::Float)).unwrap();
    let checkpoint = torch::checkpoint(optimizer.adafactor().unwrap()).unwrap();
    assert_eq!(*checkpoint.arguments().learning_rate(), 0.05.into());
    assert_eq!(checkpoint.arguments().weight_decay(), Some(0.02));

    let (second, again) = store();
    let mut resumed = Optimizer::new(&second, checkpoint.arguments_to_resume().unwrap()).unwrap();
    let error = torch::load(&checkpoint, &mut resumed).unwrap_err().to_string();
    assert!(error.contains("weight decay") && error.contains("bias"), "{error}");
    assert_eq!(resumed.iterations(), 0);
    resumed.exclude_from_weight_decay(&["bias"]).unwrap();
    torch::load(&checkpoint, &mut resumed).unwrap();
    assert_eq!((resumed.iterations(), &again), (1, &w));

    optimizer.backward_step(&w.square().sum(Kind::Float)).unwrap();
    resumed.backward_step(&again.square().sum(Kind::Float)).unwrap();
    assert_eq!(again, w);
    let end =
        |optimizer: &Optimizer| bytes(&torch::checkpoint(optimizer.adafactor().unwrap()).unwrap());
    assert_eq!(end(&resumed), end(&optimizer));
}

#[test]
fn variables_that_come_after_the_optimizer_are_loaded() {
    let (first, w) = store();
    let mut optimizer = Optimizer::new(&first, &arguments(false, true, 0.1)).unwrap();
    optimizer.backward_step(&w.square().sum(Kind::Float)).unwrap();
    let checkpoint = torch::checkpoint(optimizer.adafactor().unwrap()).unwrap();

    let second = nn::VarStore::new(Device::Cpu);
    let mut resumed = Optimizer::new(&second, checkpoint.arguments_to_resume().unwrap()).unwrap();
    let again = fill(&second);
    torch::load(&checkpoint, &mut resumed).unwrap();
    assert_eq!((resumed.iterations(), &again), (1, &w));
}

#[test]
fn a_checkpoint_of_others_changes_nothing() {
    let (list, arguments) = (parameters(), arguments(false, false, 0.1));
    let optimizer = Adafactor::new(&arguments, &list, &tensors(&list, 1, Kind::Float)).unwrap();
    let checkpoint = torch::checkpoint(&optimizer).unwrap();
    let fresh = tensors(&list, 2, Kind::Double);
    let before: Vec<Tensor> = fresh.iter().map(Tensor::copy).collect();
    let error = torch::restore(&checkpoint, &list, &fresh).unwrap_err().to_string();
    assert_eq!(error, "type of parameter layer 0 in the checkpoint must be float64, got float32");
    assert_eq!(fresh, before);
}

/// A dead row and a dead column: NaN as in Keras by default, finite on request.
#[test]
fn dead_rows_and_columns_are_what_the_caller_chose() {
    let list = ParameterList::new(vec![Parameter::new("w", &[3, 4]).unwrap()]).unwrap();
    let gradient = [0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.25, 1.0, 0.5, 0.0, 1.0, 0.25];
    for (underflow, finite) in
        [(SecondMomentUnderflow::MatchKeras, false), (SecondMomentUnderflow::Finite, true)]
    {
        let builder = AdafactorArguments::builder().learning_rate(0.5);
        let arguments = builder.second_moment_underflow(underflow).build().unwrap();
        let w = Tensor::ones([3, 4], (Kind::Float, Device::Cpu));
        let mut optimizer = Adafactor::new(&arguments, &list, &[w.shallow_clone()]).unwrap();
        let step = [Some(Gradient::Tensor(tensor(&[3, 4], &gradient, Kind::Float)))];
        optimizer.step(&step).unwrap();
        let all_nan = bool::try_from(w.isnan().all()).unwrap();
        let dead = w.get(0);
        let unmoved = dead == Tensor::ones([4], (Kind::Float, Device::Cpu));
        assert_eq!((all_nan, unmoved), (!finite, finite), "{underflow:?}: {w:?}");
    }
}
