//! The optimizer over a `VarStore`, beside what `tch::nn::Optimizer` does.

#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use goldstep_core::{AdafactorArguments, Constraint, Error, Schedule, StepReport};
use goldstep_torch::Optimizer;
use tch::nn::{self, Init, Module, OptimizerConfig, VarStore};
use tch::{Device, Kind, Tensor};

fn arguments(learning_rate: f64) -> AdafactorArguments {
    AdafactorArguments::builder().learning_rate(learning_rate).build().unwrap()
}

fn store() -> (VarStore, Tensor, Tensor) {
    let store = VarStore::new(Device::Cpu);
    let w = store.root().var("weight", &[2, 3], Init::Const(1.0));
    let b = store.root().set_group(1).var("bias", &[3], Init::Const(1.0));
    (store, w, b)
}

fn moved(tensor: &Tensor) -> f64 {
    (tensor - 1.0).abs().max().double_value(&[])
}

#[test]
fn a_backward_step_moves_what_the_loss_depends_on() {
    let (store, w, b) = store();
    let mut optimizer = Optimizer::new(&store, &arguments(0.1)).unwrap();
    optimizer.backward_step(&(w.square().sum(Kind::Float) + b.sum(Kind::Float))).unwrap();
    let (after_w, after_b) = (w.detach().copy(), b.detach().copy());
    assert!(moved(&after_w) > 0.01 && moved(&after_b) > 0.01);
    // `b` had a gradient in the step before, and has none now: it stays.
    optimizer.backward_step(&w.square().sum(Kind::Float)).unwrap();
    assert_eq!(b.detach(), after_b);
    assert_ne!(w.detach(), after_w);
    assert!(!b.grad().defined());
    assert_eq!(optimizer.iterations(), 2);
    assert_eq!(optimizer.trainable_variables().len(), 2);
}

#[test]
fn variables_added_later_are_picked_up() {
    let (store, w, b) = store();
    let mut optimizer = Optimizer::new(&store, &arguments(0.1)).unwrap();
    optimizer.exclude_from_weight_decay(&["late"]).unwrap();
    optimizer.backward_step(&(&w * &b).sum(Kind::Float)).unwrap();
    let late = store.root().var("late", &[3], Init::Const(1.0));
    optimizer.backward_step(&(&w * &b * &late).sum(Kind::Float)).unwrap();
    assert!(moved(&late.detach()) > 0.01);
    let names: Vec<String> = optimizer
        .adafactor()
        .unwrap()
        .parameters()
        .iter()
        .map(|parameter| format!("{} {}", parameter.name(), parameter.decays()))
        .collect();
    assert_eq!(names, ["weight true", "bias true", "late false"]);
}

#[test]
fn variables_are_picked_up_all_or_none() {
    let (store, ..) = store();
    let mut optimizer = Optimizer::new(&store, &arguments(0.1)).unwrap();
    let _ = store.root().var("good", &[2], Init::Const(1.0));
    let _ = store.root().var("complex", &[2], Init::Const(1.0));
    let complex = Tensor::ones([2], (Kind::ComplexFloat, Device::Cpu));
    store.variables_.lock().unwrap().trainable_variables[3].tensor.set_data(&complex);
    let error = optimizer.add_missing_variables().unwrap_err().to_string();
    assert!(error.starts_with("parameter of complex must be of kind"), "{error}");
    assert_eq!(optimizer.adafactor().unwrap().parameters().len(), 2);
}

/// Minutes instead of milliseconds where each variable costs another look at all others.
#[test]
fn thousands_of_variables_have_their_names() {
    let store = VarStore::new(Device::Cpu);
    for index in 0..2000 {
        let _ = store.root().var(&format!("layer{index}"), &[1], Init::Const(1.0));
    }
    let mut optimizer = Optimizer::new(&store, &arguments(0.1)).unwrap();
    optimizer.exclude_from_weight_decay(&["7$"]).unwrap();
    let parameters = optimizer.adafactor().unwrap().parameters();
    assert_eq!(parameters.len(), 2000);
    for (index, parameter) in parameters.iter().enumerate() {
        assert_eq!(parameter.name(), format!("layer{index}"));
        assert_eq!(parameter.decays(), index % 10 != 7);
    }
}

#[test]
fn a_store_may_be_empty_at_first() {
    let store = VarStore::new(Device::Cpu);
    let mut optimizer = Optimizer::new(&store, &arguments(0.5)).unwrap();
    assert_eq!(optimizer.step(), Err(Error::EmptyList));
    assert!(optimizer.set_lr(-1.0).is_err());
    optimizer.set_lr(0.0).unwrap();
    let layer = nn::linear(store.root() / "layer", 2, 1, nn::LinearConfig::default());
    let before = layer.ws.detach().copy();
    let loss = layer.forward(&Tensor::ones([4, 2], (Kind::Float, Device::Cpu))).sum(Kind::Float);
    optimizer.backward_step(&loss).unwrap();
    assert_eq!(layer.ws.detach(), before, "the rate of 0 was kept for the first variables");
}

#[test]
fn assignments_to_an_empty_store_are_kept_and_checked_in_order() {
    let store = VarStore::new(Device::Cpu);
    let mut optimizer = Optimizer::new(&store, &arguments(0.1)).unwrap();
    optimizer.set_lr(Schedule::exponential_decay(1.0, 1.0, 0.5, false)).unwrap();
    assert_eq!(optimizer.set_lr(0.1), Err(Error::NumberOntoSchedule { value: 0.1 }));
    optimizer.set_weight_decay_group(1, 0.25).unwrap();
    optimizer.set_weight_decay(0.5).unwrap();
    optimizer.set_weight_decay_group(2, 0.75).unwrap();
    for (group, left) in [(0, 0.5), (1, 0.5), (2, 0.25)] {
        let path = store.root().set_group(group);
        let x = path.var(&format!("group{group}"), &[2], Init::Const(1.0));
        // A gradient of 0 leaves the decay, at the rate of the schedule's step.
        optimizer.backward_step(&(x.sum(Kind::Float) * 0.0)).unwrap();
        let rate = 0.5_f64.powi(group.try_into().unwrap());
        let left = 1.0 - (1.0 - left) * rate;
        assert!((x.detach() - left).abs().max().double_value(&[]) < 1e-6, "group {group}");
    }
}

#[test]
fn groups_that_come_later_have_what_was_assigned_to_all() {
    let (store, ..) = store();
    let mut optimizer = Optimizer::new(&store, &arguments(0.1)).unwrap();
    optimizer.set_lr(1.0).unwrap();
    optimizer.set_weight_decay(0.5).unwrap();
    let late = store.root().set_group(2).var("late", &[3], Init::Const(1.0));
    optimizer.backward_step(&(late.sum(Kind::Float) * 0.0)).unwrap();
    assert!((late.detach() - 0.5).abs().max().double_value(&[]) < 1e-6);
}

#[test]
fn groups_have_their_own_rate_and_decay() {
    let (store, w, b) = store();
    let mut optimizer = Optimizer::new(&store, &arguments(0.1)).unwrap();
    let loss = || w.sum(Kind::Float) + b.sum(Kind::Float);
    optimizer.set_lr_group(1, 0.0).unwrap();
    optimizer.backward_step(&loss()).unwrap();
    assert!(moved(&w.detach()) > 0.01 && moved(&b.detach()) < 1e-9);
    optimizer.set_lr(0.0).unwrap();
    let before = w.detach().copy();
    optimizer.backward_step(&loss()).unwrap();
    assert_eq!(w.detach(), before);
    // Decay multiplies the uncapped rate: with both, everything goes in one step.
    optimizer.set_lr(1.0).unwrap();
    optimizer.set_weight_decay_group(0, 0.5).unwrap();
    let before = w.detach().copy();
    optimizer.backward_step(&(w.sum(Kind::Float) * 0.0 + b.sum(Kind::Float) * 0.0)).unwrap();
    assert!((w.detach() - before * 0.5).abs().max().double_value(&[]) < 1e-6);
    assert!(moved(&b.detach()) < 1e-6);
    assert!(optimizer.set_weight_decay(f64::NAN).is_err());
    assert!(optimizer.set_lr_group(1, f64::INFINITY).is_err());
}

#[test]
fn gradients_are_clipped_as_by_tch() {
    let gradient = |clip: &dyn Fn(&VarStore)| {
        let (store, w, b) = store();
        (w.sum(Kind::Float) * 3.0 + b.sum(Kind::Float) * 4.0).backward();
        clip(&store);
        (w.grad(), b.grad())
    };
    let ours = |store: &VarStore| Optimizer::new(store, &arguments(0.1)).unwrap();
    let theirs = |store: &VarStore| nn::Sgd::default().build(store, 0.1).unwrap();
    let same = |(a, b): &(Tensor, Tensor), (c, d): &(Tensor, Tensor)| {
        let close = |x: &Tensor, y: &Tensor| (x - y).abs().max().double_value(&[]) < 1e-6;
        assert!(close(a, c) && close(b, d));
    };
    same(
        &gradient(&|store| ours(store).clip_grad_norm(2.0).unwrap()),
        &gradient(&|store| theirs(store).clip_grad_norm(2.0)),
    );
    same(
        &gradient(&|store| ours(store).clip_grad_norm(1000.0).unwrap()),
        &gradient(&|store| theirs(store).clip_grad_norm(1000.0)),
    );
    same(
        &gradient(&|store| ours(store).clip_grad_value(3.5).unwrap()),
        &gradient(&|store| tch::no_grad(|| theirs(store).clip_grad_value(3.5))),
    );
}

#[test]
fn gradients_of_variables_that_came_later_are_clipped_too() {
    let (store, ..) = store();
    let optimizer = Optimizer::new(&store, &arguments(0.1)).unwrap();
    let late = store.root().var("late", &[4], Init::Const(1.0));
    (late.sum(Kind::Float) * 4.0).backward();
    optimizer.clip_grad_value(3.0).unwrap();
    assert_eq!(late.grad(), Tensor::full([4], 3.0, (Kind::Float, Device::Cpu)));
    optimizer.clip_grad_norm(1.0).unwrap();
    assert!((late.grad().norm().double_value(&[]) - 1.0).abs() < 1e-5);
}

/// The squares alone exceed the largest float16, 65504.
#[test]
fn norms_of_halves_are_summed_in_float32() {
    let (mut store, w, _b) = store();
    store.half();
    let optimizer = Optimizer::new(&store, &arguments(0.1)).unwrap();
    (w.sum(Kind::Float) * 300.0).backward();
    optimizer.clip_grad_norm(1.0).unwrap();
    let norm = w.grad().to_kind(Kind::Float).norm().double_value(&[]);
    assert!((norm - 1.0).abs() < 1e-3, "{norm}");
}

#[test]
fn clipped_steps_differ_from_unclipped_ones_only_by_the_clip() {
    let run = |step: &dyn Fn(&mut Optimizer, &Tensor) -> Result<StepReport, Error>| {
        let (store, w, b) = store();
        let mut optimizer = Optimizer::new(&store, &arguments(0.1)).unwrap();
        // One large and several small gradients, so that clipping by value changes the ratio.
        let weights = Tensor::from_slice(&[9.0_f32, 1.0, 1.0]);
        step(&mut optimizer, &((&w * &weights).sum(Kind::Float) + b.sum(Kind::Float))).unwrap();
        w.detach().copy()
    };
    let plain = run(&|optimizer, loss| optimizer.backward_step(loss));
    let norm = run(&|optimizer, loss| optimizer.backward_step_clip_norm(loss, 1.0));
    let value = run(&|optimizer, loss| optimizer.backward_step_clip(loss, 2.0));
    // Adafactor's first step does not depend on the scale of the gradient.
    assert!((&plain - &norm).abs().max().double_value(&[]) < 1e-5);
    assert!(moved(&value) > 0.0 && value.size() == plain.size());
}

#[test]
fn constraints_hold_after_a_step() {
    let (store, w, b) = store();
    let mut optimizer = Optimizer::new(&store, &arguments(0.9)).unwrap();
    optimizer.set_constraint("weight", Constraint::Clip { minimum: 0.75, maximum: 0.8 }).unwrap();
    optimizer.backward_step(&(w.sum(Kind::Float) + b.sum(Kind::Float))).unwrap();
    let (low, high) = w.detach().aminmax(None, false);
    assert!(low.double_value(&[]) >= 0.7499 && high.double_value(&[]) <= 0.8001);
    assert!(b.detach().min().double_value(&[]) < 0.75);
    optimizer.set_constraint("weight", Constraint::Clip { minimum: 0.5, maximum: 0.25 }).unwrap();
    optimizer.backward_step(&(w.sum(Kind::Float) + b.sum(Kind::Float))).unwrap();
    let (low, high) = w.detach().aminmax(None, false);
    assert_eq!((low.double_value(&[]), high.double_value(&[])), (0.5, 0.5));
}

#[test]
fn embeddings_have_sparse_gradients() {
    let store = VarStore::new(Device::Cpu);
    let config = nn::EmbeddingConfig { sparse: true, ..Default::default() };
    let table = nn::embedding(store.root() / "table", 5, 2, config);
    let before = table.ws.detach().copy();
    let mut optimizer = Optimizer::new(&store, &arguments(0.1)).unwrap();
    let loss =
        |table: &nn::Embedding| table.forward(&Tensor::from_slice(&[1_i64, 3, 1])).sum(Kind::Float);
    optimizer.backward_step_clip_norm(&loss(&table), 1.0).unwrap();
    assert!(table.ws.grad().is_sparse());
    let change = (table.ws.detach() - before).abs().sum_dim_intlist([-1].as_slice(), false, None);
    let moved: Vec<f64> = Vec::try_from(change.to_kind(Kind::Double)).unwrap();
    assert!(moved[1] > 0.01 && moved[3] > 0.01, "{moved:?}");
    assert!(moved[0] + moved[2] + moved[4] < 1e-6, "{moved:?}");
    optimizer.backward_step(&loss(&table)).unwrap();
}

#[test]
fn averages_and_state_are_within_reach() {
    let (store, w, b) = store();
    let arguments = AdafactorArguments::builder().learning_rate(0.2).use_ema(true).build().unwrap();
    let mut optimizer = Optimizer::new(&store, &arguments).unwrap();
    assert!(matches!(optimizer.finalize_variable_values(), Err(Error::NotBuilt { .. })));
    optimizer.backward_step(&(w.sum(Kind::Float) + b.sum(Kind::Float))).unwrap();
    let state = optimizer.adafactor().unwrap().state().unwrap();
    optimizer.finalize_variable_values().unwrap();
    // 0.99 · 1 + 0.01 · x lies near 1 again.
    assert!(moved(&w.detach()) < 0.01);
    optimizer.load_state(&state).unwrap();
    assert_eq!(optimizer.iterations(), 1);
}

#[test]
fn variables_that_come_later_have_an_average_at_once() {
    let (store, w, _b) = store();
    let arguments = AdafactorArguments::builder().use_ema(true).build().unwrap();
    let mut optimizer = Optimizer::new(&store, &arguments).unwrap();
    optimizer.backward_step(&w.sum(Kind::Float)).unwrap();
    let late = store.root().var("late", &[3], Init::Const(2.0));
    optimizer.zero_grad().unwrap();
    let adafactor = optimizer.adafactor().unwrap();
    assert_eq!(adafactor.average(2).unwrap(), Some(late.detach()));
    let state = adafactor.state().unwrap();
    optimizer.load_state(&state).unwrap();
}
