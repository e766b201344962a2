//! How to judge an optimizer of one's own in one's own `cargo test`: implement the trait, choose
//! goldens, run. The Adafactor here is 60 lines of float64 loops; a second one forgets the cap of
//! the step size, and the judge says so.

use std::path::Path;

use goldstep_conformance::agreement::{Quantity, Role};
use goldstep_conformance::golden::Golden;
use goldstep_conformance::{
    BuildRequest, Capabilities, Description, Failure, Focus, GradientValues, Implementation,
    Report, Selection, StateField, StateRequest, StepRequest, StepResponse, Subject, run,
};

/// The families in which this optimizer has something to show.
const FAMILIES: [&str; 3] = ["arguments", "missing", "lists"];

struct Mine {
    description: Description,
    capped: bool,
    argument: fn(&BuildRequest<'_>, &str, f64) -> f64,
    rate: f64,
    decay: f64,
    epsilon: [f64; 2],
    threshold: f64,
    shapes: Vec<Vec<usize>>,
    state: StepResponse,
}

impl Mine {
    fn new(capped: bool) -> Self {
        let arguments =
            ["learning_rate", "beta_2_decay", "epsilon_1", "epsilon_2", "clip_threshold"];
        let capabilities = Capabilities {
            arguments: arguments.map(str::to_owned).to_vec(),
            states: vec![StateField::R, StateField::C, StateField::V],
            ..Capabilities::minimal("goldstep")
        };
        Self {
            description: Description::new("mine", "1", "Rust", "this test", capabilities),
            capped,
            argument: |request, name, default| {
                request.arguments.get(name).and_then(|value| value.as_f64()).unwrap_or(default)
            },
            rate: 0.0,
            decay: 0.0,
            epsilon: [0.0; 2],
            threshold: 0.0,
            shapes: Vec::new(),
            state: StepResponse::default(),
        }
    }

    fn update(&mut self, index: usize, gradient: &[f64]) {
        #[expect(clippy::cast_precision_loss, reason = "few steps")]
        let t = self.state.iterations as f64;
        let beta = 1.0 - t.powf(self.decay);
        let square: Vec<f64> = gradient.iter().map(|g| g * g + self.epsilon[0]).collect();
        let v = if let [.., rows, columns] = self.shapes[index][..] {
            let (Some(r), Some(c)) = (&mut self.state.r[index], &mut self.state.c[index]) else {
                return;
            };
            for (i, r) in r.iter_mut().enumerate() {
                *r = beta * *r + (1.0 - beta) * mean(square[i * columns..][..columns].iter());
            }
            for (i, c) in c.iter_mut().enumerate() {
                let first = i / columns * rows * columns + i % columns;
                let column = square.iter().skip(first).step_by(columns).take(rows);
                *c = beta * *c + (1.0 - beta) * mean(column);
            }
            let at = |i: usize| {
                let (batch, column) = (i / (rows * columns), i % columns);
                let scale = mean(r[batch * rows..][..rows].iter());
                r[i / columns] / scale * c[batch * columns + column]
            };
            (0..square.len()).map(at).collect()
        } else {
            let old = self.state.v[index].take().unwrap_or_else(|| vec![0.0; square.len()]);
            old.iter().zip(&square).map(|(v, s)| beta * v + (1.0 - beta) * s).collect::<Vec<_>>()
        };
        let x = &mut self.state.variables[index];
        let rho = if self.capped { self.rate.min(1.0 / t.sqrt()) } else { self.rate };
        let alpha = rms(x).max(self.epsilon[1]) * rho;
        let u: Vec<f64> = gradient.iter().zip(&v).map(|(g, v)| g / v.sqrt()).collect();
        let clip = (rms(&u) / self.threshold).max(1.0);
        x.iter_mut().zip(&u).for_each(|(x, u)| *x -= alpha * u / clip);
        self.state.v[index] = Some(v);
    }
}

#[expect(clippy::cast_precision_loss, reason = "small tensors")]
fn mean<'a>(values: impl ExactSizeIterator<Item = &'a f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

fn rms(values: &[f64]) -> f64 {
    let squares: Vec<f64> = values.iter().map(|value| value * value).collect();
    mean(squares.iter()).sqrt()
}

impl Implementation for Mine {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn build(&mut self, request: &BuildRequest<'_>) -> Result<(), Failure> {
        // Keras keeps these two in float32, even beside float64 variables.
        let through_f32 = |name, default| {
            #[expect(clippy::cast_possible_truncation, reason = "rounding is the purpose")]
            let narrow = (self.argument)(request, name, default) as f32;
            f64::from(narrow)
        };
        self.rate = through_f32("learning_rate", 0.001);
        self.epsilon =
            [(self.argument)(request, "epsilon_1", 1e-30), through_f32("epsilon_2", 0.001)];
        self.decay = (self.argument)(request, "beta_2_decay", -0.8);
        self.threshold = (self.argument)(request, "clip_threshold", 1.0);
        self.shapes = request.variables.iter().map(|variable| variable.shape.clone()).collect();
        let zeros = |kept: fn(&[usize]) -> Option<usize>| {
            self.shapes.iter().map(|shape| kept(shape).map(|size| vec![0.0; size])).collect()
        };
        self.state = StepResponse {
            learning_rate: self.rate,
            variables: request.variables.iter().map(|one| one.initial.clone()).collect(),
            r: zeros(|shape| shape.split_last().and_then(|(_, rest)| size_above_one(rest))),
            c: zeros(|shape| match shape {
                [leading @ .., _, columns] => Some(leading.iter().product::<usize>() * columns),
                _ => None,
            }),
            v: zeros(|shape| Some(shape.iter().product())),
            ..StepResponse::default()
        };
        Ok(())
    }

    fn set_state(&mut self, request: &StateRequest<'_>) -> Result<(), Failure> {
        let owned = |list: &[Option<&[f64]>]| -> Vec<Option<Vec<f64>>> {
            list.iter().map(|values| values.map(<[f64]>::to_vec)).collect()
        };
        self.state.iterations = request.iterations;
        self.state.variables = request.variables.iter().map(|values| values.to_vec()).collect();
        (self.state.r, self.state.c) = (owned(request.r), owned(request.c));
        self.state.v = owned(request.v);
        Ok(())
    }

    fn step(&mut self, request: &StepRequest<'_>) -> Result<StepResponse, Failure> {
        self.state.iterations += 1;
        for (index, gradient) in request.gradients.iter().enumerate() {
            if let Some(GradientValues::Dense(gradient)) = gradient {
                self.update(index, gradient);
            }
        }
        Ok(self.state.clone())
    }

    fn finalize(&mut self) -> Result<Vec<Vec<f64>>, Failure> {
        Err(Failure::Skip { reason: "finalize".to_owned() })
    }
}

/// The size of a factor over these axes, if the variable has more than one axis.
fn size_above_one(axes: &[usize]) -> Option<usize> {
    (!axes.is_empty()).then(|| axes.iter().product())
}

fn judged(capped: bool) -> Report {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/v1");
    let golden = Golden::load(&directory).expect("goldens");
    let families = FAMILIES.map(str::to_owned);
    let selection =
        Selection::new(&golden, &families, &[], Focus::default()).expect("the families");
    let subject = Subject::new("mine", Role::Other, move || Ok(Box::new(Mine::new(capped))));
    run(&golden, &selection, &subject, 1, &|_| {}).expect("a report")
}

#[test]
fn my_adafactor_agrees_with_tf_keras() {
    let report = judged(true);
    let different: Vec<_> = report.families.iter().flat_map(|family| &family.differ).collect();
    assert!(report.agrees() && !report.is_broken(), "{:?}", different.first());
    let agreeing: Vec<usize> = report.families.iter().map(|family| family.agree.len()).collect();
    assert!(agreeing.iter().all(|runs| *runs > 0), "{agreeing:?}");
}

#[test]
fn a_missing_cap_is_found() {
    let report = judged(false);
    assert!(!report.agrees());
    let mut differ = report.families.iter().flat_map(|family| &family.differ);
    assert!(differ.all(|(_, first)| first.quantity() == Quantity::Variable));
}
