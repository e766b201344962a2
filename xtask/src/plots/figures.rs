//! What the figures show: every point was computed by the library.

use anyhow::Result;
use goldstep_core::{
    AdafactorArguments, AdafactorArgumentsBuilder, AdafactorScalars, AdafactorState, DType,
    Gradient, HostOptimizer, LearningRate, ObservableOptimizer, Parameter, ParameterList, Schedule,
};
use goldstep_reference::Adafactor;
use plotters::prelude::SeriesLabelPosition;

/// One figure.
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) x: &'static str,
    pub(super) y: &'static str,
    pub(super) log_x: bool,
    pub(super) log_y: bool,
    pub(super) legend: SeriesLabelPosition,
    pub(super) lines: Vec<Line>,
}

/// Pairs of x and y, in order of x.
type Points = Vec<(f64, f64)>;

/// One line of a figure.
pub(super) struct Line {
    pub(super) label: String,
    pub(super) points: Points,
}

pub(super) fn all() -> Result<Vec<Figure>> {
    Ok(vec![
        memory()?,
        learning_rate()?,
        schedules()?,
        beta_2_decay()?,
        epsilon_1()?,
        epsilon_2()?,
        clip_threshold()?,
        weight_decay()?,
        clipping()?,
        ema()?,
    ])
}

fn builder() -> AdafactorArgumentsBuilder {
    AdafactorArguments::builder()
}

fn line(label: impl Into<String>, points: impl Iterator<Item = (f64, f64)>) -> Line {
    Line { label: label.into(), points: points.collect() }
}

fn list(shape: &[usize]) -> Result<ParameterList> {
    Ok(ParameterList::new(vec![Parameter::new("x", shape)?])?)
}

fn memory() -> Result<Figure> {
    let sizes = || (0..=10_u32).map(|power| 16_usize << power);
    let mut factored = Vec::new();
    for size in sizes() {
        let state = AdafactorState::zeros(&list(&[size, size])?, DType::Float32);
        factored.push((f64::from(u32::try_from(size)?), state));
    }
    let bytes = |length: usize| u32::try_from(4 * length).map_or(f64::NAN, f64::from);
    let own = factored.iter().map(|(size, state)| {
        (*size, bytes(state.variables.iter().map(|v| v.second_moment.len()).sum()))
    });
    Ok(Figure {
        name: "memory",
        title: "Optimizer state of an n × n matrix in float32",
        x: "n",
        y: "bytes",
        log_x: true,
        log_y: true,
        legend: SeriesLabelPosition::UpperLeft,
        lines: vec![
            line("Adafactor: r and c, 2 n", own),
            line(
                "a full second moment, n²",
                sizes().map(|n| (bytes(n) / 4.0, bytes(n) * bytes(n) / 4.0)),
            ),
            line(
                "Adam: both moments, 2 n²",
                sizes().map(|n| (bytes(n) / 4.0, bytes(n) * bytes(n) / 2.0)),
            ),
        ],
    })
}

fn learning_rate() -> Result<Figure> {
    let mut lines = Vec::new();
    for rate in [2.0, 0.1, 0.03] {
        let arguments = builder().learning_rate(rate).build()?;
        let points = (0..400_u32).map(|iterations| {
            let rate = arguments.learning_rate().at(iterations.into());
            let scalars = AdafactorScalars::of::<f32>(&arguments, rate, iterations.into());
            (f64::from(iterations + 1), scalars.relative_step_size)
        });
        lines.push(line(format!("learning_rate {rate}"), points));
    }
    Ok(Figure {
        name: "learning_rate",
        title: "Relative step size: ρ = min(learning_rate, 1/√t)",
        x: "step t",
        y: "ρ",
        log_x: false,
        log_y: true,
        legend: SeriesLabelPosition::UpperRight,
        lines,
    })
}

fn schedules() -> Result<Figure> {
    let initial_learning_rate = 0.1;
    let schedules = [
        Schedule::exponential_decay(initial_learning_rate, 30.0, 0.5, false),
        Schedule::PiecewiseConstantDecay {
            boundaries: vec![30.0, 60.0],
            values: vec![0.1, 0.05, 0.02],
        },
        Schedule::PolynomialDecay {
            initial_learning_rate,
            decay_steps: 80.0,
            end_learning_rate: 0.01,
            power: 2.0,
            cycle: false,
        },
        Schedule::InverseTimeDecay {
            initial_learning_rate,
            decay_steps: 20.0,
            decay_rate: 1.0,
            staircase: false,
        },
        Schedule::CosineDecay { initial_learning_rate, decay_steps: 100.0, alpha: 0.0 },
        Schedule::CosineDecayRestarts {
            initial_learning_rate,
            first_decay_steps: 20.0,
            t_mul: 2.0,
            m_mul: 0.8,
            alpha: 0.0,
        },
    ];
    let lines = schedules.into_iter().map(|schedule| {
        let label = schedule.class_name();
        let rate = LearningRate::Schedule(schedule);
        line(label, (0..120_u32).map(|i| (f64::from(i), f64::from(rate.at(i.into())))))
    });
    Ok(Figure {
        name: "schedules",
        title: "The six schedules, before the cap 1/√t",
        x: "iteration",
        y: "learning rate",
        log_x: false,
        log_y: false,
        legend: SeriesLabelPosition::UpperRight,
        lines: lines.collect(),
    })
}

fn beta_2_decay() -> Result<Figure> {
    let mut lines = Vec::new();
    for decay in [-0.5, -0.8, -1.0] {
        let arguments = builder().beta_2_decay(decay).build()?;
        let points = (0..60_u32).map(|iterations| {
            let scalars = AdafactorScalars::of::<f32>(&arguments, 0.1, iterations.into());
            (f64::from(iterations + 1), scalars.beta_2)
        });
        lines.push(line(format!("beta_2_decay {decay:?}"), points));
    }
    Ok(Figure {
        name: "beta_2_decay",
        title: "Share of the past in the second moment: β₂ = 1 − t^beta_2_decay",
        x: "step t",
        y: "β₂",
        log_x: false,
        log_y: false,
        legend: SeriesLabelPosition::LowerRight,
        lines,
    })
}

/// One first step from 0 with α = 1 shows the update itself.
fn epsilon_1() -> Result<Figure> {
    let mut lines = Vec::new();
    for epsilon in [1e-30, 1e-8, 1e-4] {
        let builder = builder().learning_rate(1.0).epsilon_1(epsilon).epsilon_2(1.0);
        let arguments = builder.clip_threshold(f64::INFINITY).build()?;
        let mut points = Vec::new();
        for exponent in -60..=0 {
            let gradient = 10_f64.powf(f64::from(exponent) / 10.0);
            let mut optimizer = Adafactor::<f64>::build(&arguments, &list(&[1])?)?;
            let mut x = [0.0];
            optimizer.step(&mut [&mut x], &[Some(Gradient::Dense(&[gradient]))])?;
            points.push((gradient, -x[0]));
        }
        lines.push(Line { label: format!("epsilon_1 {epsilon:e}"), points });
    }
    Ok(Figure {
        name: "epsilon_1",
        title: "Update u of a first step: gradients below √epsilon_1 count as small",
        x: "gradient",
        y: "u",
        log_x: true,
        log_y: false,
        legend: SeriesLabelPosition::MiddleLeft,
        lines,
    })
}

/// A run on (x − target)², with what `change` does to the gradient of a step.
fn run(
    arguments: &AdafactorArguments,
    start: f64,
    steps: u32,
    gradient: impl Fn(u32, f64) -> f64,
) -> Result<(Points, Points)> {
    let mut optimizer = Adafactor::<f64>::build(arguments, &list(&[1])?)?;
    let mut x = [start];
    let (mut path, mut averages) = (vec![(0.0, start)], Vec::new());
    for step in 1..=steps {
        let gradient = [gradient(step, x[0])];
        optimizer.step(&mut [&mut x], &[Some(Gradient::Dense(&gradient))])?;
        path.push((f64::from(step), x[0]));
        if let Some(average) = &optimizer.state().variables[0].average {
            averages.extend(average.to_vec::<f64>().first().map(|a| (f64::from(step), *a)));
        }
    }
    Ok((path, averages))
}

fn epsilon_2() -> Result<Figure> {
    let mut lines = Vec::new();
    for epsilon in [0.001, 0.01, 0.1] {
        let arguments = builder().learning_rate(0.1).epsilon_2(epsilon).build()?;
        let (points, _) = run(&arguments, 0.0, 150, |_, x| 2.0 * (x - 1.0))?;
        lines.push(Line { label: format!("epsilon_2 {epsilon}"), points });
    }
    Ok(Figure {
        name: "epsilon_2",
        title: "A parameter that starts at 0 and belongs at 1, learning_rate 0.1",
        x: "step t",
        y: "x",
        log_x: false,
        log_y: false,
        legend: SeriesLabelPosition::LowerRight,
        lines,
    })
}

fn clip_threshold() -> Result<Figure> {
    let mut lines = Vec::new();
    for threshold in [1.0, 2.0, f64::INFINITY] {
        let arguments = builder().learning_rate(0.03).clip_threshold(threshold).build()?;
        let outlier = |step, x: f64| if step == 60 { 100.0 } else { 2.0 * (x - 1.0) };
        let (points, _) = run(&arguments, 0.8, 120, outlier)?;
        lines.push(Line { label: format!("clip_threshold {threshold}"), points });
    }
    Ok(Figure {
        name: "clip_threshold",
        title: "One gradient in step 60 is a hundred times too large",
        x: "step t",
        y: "x",
        log_x: false,
        log_y: false,
        legend: SeriesLabelPosition::LowerRight,
        lines,
    })
}

fn weight_decay() -> Result<Figure> {
    let mut lines = Vec::new();
    for decay in [None, Some(0.05), Some(0.2)] {
        let arguments = builder().learning_rate(0.1).weight_decay(decay).build()?;
        let (points, _) = run(&arguments, 1.0, 100, |_, _| 0.0)?;
        let label = decay.map_or_else(|| "none".to_owned(), |decay| decay.to_string());
        lines.push(Line { label: format!("weight_decay {label}"), points });
    }
    Ok(Figure {
        name: "weight_decay",
        title: "A parameter whose gradient is 0, learning_rate 0.1",
        x: "step t",
        y: "x",
        log_x: false,
        log_y: false,
        legend: SeriesLabelPosition::LowerLeft,
        lines,
    })
}

fn clipping() -> Result<Figure> {
    let mut lines = Vec::new();
    for (label, builder) in [
        ("off", builder()),
        ("clipnorm 1", builder().clipnorm(1.0)),
        ("clipvalue 0.5", builder().clipvalue(0.5)),
    ] {
        let arguments = builder.build()?;
        let mut points = Vec::new();
        for tenth in 0..=30_u32 {
            let length = f64::from(tenth) / 10.0;
            // Twice as long in one direction as in the other.
            let gradient = [2.0, 1.0].map(|part| part * length / 5_f64.sqrt());
            let mut optimizer = Adafactor::<f64>::build(&arguments, &list(&[2])?)?;
            let (_, seen) = optimizer
                .step_observed(&mut [&mut [1.0, 1.0]], &[Some(Gradient::Dense(&gradient))])?;
            let clipped = seen.iter().flat_map(|record| &record.clipped_gradient);
            points.push((length, clipped.map(|g| g * g).sum::<f64>().sqrt()));
        }
        lines.push(Line { label: label.to_owned(), points });
    }
    Ok(Figure {
        name: "clipping",
        title: "Length of a gradient along (2, 1) before and after clipping",
        x: "length before",
        y: "length after",
        log_x: false,
        log_y: false,
        legend: SeriesLabelPosition::UpperLeft,
        lines,
    })
}

fn ema() -> Result<Figure> {
    let noisy = |step: u32, x: f64| {
        // Noise that repeats: a line of sines, no generator.
        let noise = (f64::from(step) * 12.9898).sin() + (f64::from(step) * 78.233).sin();
        2.0 * (x - 1.0) + 2.0 * noise
    };
    let with = |momentum| {
        builder().learning_rate(0.08).epsilon_2(0.1).use_ema(true).ema_momentum(momentum).build()
    };
    let (points, fast) = run(&with(0.9)?, 0.0, 200, noisy)?;
    let (_, slow) = run(&with(0.98)?, 0.0, 200, noisy)?;
    Ok(Figure {
        name: "ema",
        title: "A parameter under noisy gradients, and its averages",
        x: "step t",
        y: "x",
        log_x: false,
        log_y: false,
        legend: SeriesLabelPosition::LowerRight,
        lines: vec![
            Line { label: "x".to_owned(), points },
            Line { label: "average, ema_momentum 0.9".to_owned(), points: fast },
            Line { label: "average, ema_momentum 0.98".to_owned(), points: slow },
        ],
    })
}
