//! A failing run as a Rust test that stands alone.

use std::fmt::{self, Write as _};

use goldstep_core::{Constraint, DType};
use serde_json::{Map, Value};

use crate::agreement::{Allowance, Circumstances, Mode, Quantity, Role, allowance};
use crate::arguments::is_default;
use crate::golden::{Case, Tensor};
use crate::implementation::GradientValues;

/// The optimizer that a test is written for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The crate, as it stands in `use`.
    pub module: String,
    /// The generic optimizer type in it.
    pub optimizer: String,
}

/// The text of a Rust test that runs `case` through a [`goldstep_core::HostOptimizer`].
///
/// It needs `goldstep-core` and the target's crate; for configurations that are schedules also
/// `serde_json`, for halves also `half`.
#[must_use]
pub fn unit_test(case: &Case, target: &Target) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_test(&mut text, case, target);
    text
}

fn write_test(out: &mut String, case: &Case, target: &Target) -> fmt::Result {
    let name = identifier(&format!("{}_{}", case.family.as_deref().unwrap_or("case"), case.id));
    let element = element(case.dtype);
    let sparse = |one: &Option<GradientValues>| one.is_some();
    let any_gradient = case.steps.iter().flat_map(|step| &step.gradients).any(sparse);
    writeln!(out, "// What tf.keras 2.12.1 gave in {}.", name.replace('_', " "))?;
    let mut imports = vec!["AdafactorArguments", "HostOptimizer", "Parameter", "ParameterList"];
    if any_gradient || !case.steps.is_empty() {
        imports.push("Gradient");
    }
    if case.variables.iter().any(|one| one.constraint.is_some()) {
        imports.push("Constraint");
    }
    if case.steps.iter().any(|step| step.learning_rate.is_some()) {
        imports.push("LearningRate");
    }
    imports.sort_unstable();
    writeln!(out, "use goldstep_core::{{{}}};", imports.join(", "))?;
    writeln!(out, "use {}::{};\n", target.module, target.optimizer)?;
    writeln!(out, "#[test]\nfn {name}() {{")?;
    write_arguments(out, &case.arguments)?;
    if case.expectation.error.as_ref().is_some_and(|error| error.step.is_none()) {
        return writeln!(out, "    assert!(arguments.is_err());\n}}");
    }
    writeln!(out, "    let arguments = arguments.unwrap();")?;
    write_parameters(out, case)?;
    writeln!(
        out,
        "    let mut optimizer = {}::<{element}>::build(&arguments, &parameters).unwrap();",
        target.optimizer
    )?;
    for (index, variable) in case.variables.iter().enumerate() {
        let values = array(case.dtype, &variable.initial);
        writeln!(out, "    // {}", variable.name)?;
        writeln!(out, "    let mut x{index} = {values};")?;
    }
    write_steps(out, case)?;
    writeln!(out, "}}\n\n{}", close(case.dtype))
}

fn write_arguments(out: &mut String, arguments: &Map<String, Value>) -> fmt::Result {
    let set: Vec<(&String, &Value)> =
        arguments.iter().filter(|(name, value)| !is_default(name, value)).collect();
    if set.iter().any(|(_, value)| value.is_object() || value.is_string()) {
        let object: Map<String, Value> =
            set.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        writeln!(out, "    let config = serde_json::json!({});", Value::Object(object))?;
        return writeln!(
            out,
            "    let arguments = AdafactorArguments::from_keras_config(config.as_object().unwrap());"
        );
    }
    writeln!(out, "    let arguments = AdafactorArguments::builder()")?;
    for (name, value) in set {
        let value = match value {
            Value::Null => "None".to_owned(),
            Value::Number(number) if name == "ema_overwrite_frequency" => number.to_string(),
            Value::Number(number) => float(number.as_f64().unwrap_or(f64::NAN)),
            other => other.to_string(),
        };
        writeln!(out, "        .{name}({value})")?;
    }
    writeln!(out, "        .build();")
}

fn write_parameters(out: &mut String, case: &Case) -> fmt::Result {
    let excluded = !case.exclude_from_weight_decay.is_empty();
    let mutable = if excluded { "mut " } else { "" };
    writeln!(out, "    let {mutable}parameters = ParameterList::new(vec![")?;
    for variable in &case.variables {
        write!(out, "        Parameter::new({:?}, &{:?}).unwrap()", variable.name, variable.shape)?;
        match variable.constraint {
            Some(Constraint::NonNegative) => {
                write!(out, ".with_constraint(Constraint::NonNegative)")?;
            }
            Some(Constraint::Clip { minimum, maximum }) => {
                let (minimum, maximum) = (float(minimum), float(maximum));
                write!(
                    out,
                    ".with_constraint(Constraint::Clip {{ minimum: {minimum}, maximum: {maximum} }})"
                )?;
            }
            _ => {}
        }
        writeln!(out, ",")?;
    }
    writeln!(out, "    ])\n    .unwrap();")?;
    if excluded {
        let patterns = &case.exclude_from_weight_decay;
        writeln!(out, "    parameters.exclude_from_weight_decay(&{patterns:?}).unwrap();")?;
    }
    Ok(())
}

fn write_steps(out: &mut String, case: &Case) -> fmt::Result {
    let mut scales: Vec<f64> = case.variables.iter().map(|one| largest(&one.initial)).collect();
    let names: Vec<String> =
        (0..case.variables.len()).map(|index| format!("&mut x{index}")).collect();
    let names = names.join(", ");
    for (index, step) in case.steps.iter().enumerate() {
        writeln!(out, "\n    // Step {}", index + 1)?;
        if let Some(rate) = &step.learning_rate {
            write_rate(out, rate)?;
        }
        writeln!(out, "    let report = optimizer.step(\n        &mut [{names}],\n        &[")?;
        for gradient in &step.gradients {
            match gradient {
                None => writeln!(out, "            None,")?,
                Some(GradientValues::Dense(values)) => {
                    let values = array(case.dtype, values);
                    writeln!(out, "            Some(Gradient::Dense(&{values})),")?;
                }
                Some(GradientValues::Sparse { indices, values }) => {
                    let values = array(case.dtype, values);
                    writeln!(
                        out,
                        "            Some(Gradient::Sparse {{ indices: &{indices:?}, values: &{values} }}),"
                    )?;
                }
            }
        }
        writeln!(out, "        ],\n    );")?;
        if case.expectation.error.as_ref().is_some_and(|error| error.step == Some(index)) {
            return writeln!(out, "    assert!(report.is_err());");
        }
        let Some(expected) = &case.expectation.steps[index] else {
            writeln!(out, "    report.unwrap();")?;
            continue;
        };
        writeln!(out, "    assert_eq!(report.unwrap().iterations, {});", expected.iterations)?;
        let circumstances = Circumstances {
            mode: Mode::Free,
            role: Role::Other,
            step: index as u64 + 1,
            schedule: false,
        };
        for (at, values) in expected.variables.iter().enumerate() {
            let ema = expected.ema[at].as_ref().map_or(0.0, |ema| largest(ema));
            scales[at] = scales[at].max(largest(values)).max(ema);
            let allowed = allowance(Quantity::Variable, circumstances);
            compare(out, case.dtype, &format!("x{at}"), values, allowed, scales[at])?;
            if let Some(v) = &expected.v[at] {
                let allowed = allowance(Quantity::V, circumstances);
                let actual = format!("optimizer.second_moment({at})");
                compare(out, case.dtype, &actual, v, allowed, 0.0)?;
            }
        }
    }
    if let Some(finalized) = &case.expectation.finalized {
        writeln!(out, "\n    optimizer.finalize_variable_values(&mut [{names}]).unwrap();")?;
        for (at, values) in finalized.iter().enumerate() {
            let allowed = Allowance::Scaled(4.0);
            compare(out, case.dtype, &format!("x{at}"), values, allowed, scales[at])?;
        }
    }
    Ok(())
}

fn write_rate(out: &mut String, rate: &Value) -> fmt::Result {
    match rate.as_f64() {
        Some(rate) => writeln!(
            out,
            "    optimizer.set_learning_rate(LearningRate::from({})).unwrap();",
            float(rate)
        ),
        None => {
            writeln!(out, "    let rate = serde_json::json!({rate});")?;
            writeln!(out, "    let rate = LearningRate::from_keras_config(&rate).unwrap();")?;
            writeln!(out, "    optimizer.set_learning_rate(rate).unwrap();")
        }
    }
}

/// One comparison: absolute in eps of a scale, or relative in eps of the expected magnitude.
fn compare(
    out: &mut String,
    dtype: DType,
    actual: &str,
    expected: &Tensor,
    allowed: Allowance,
    scale: f64,
) -> fmt::Result {
    let (relative, absolute) = match allowed {
        Allowance::Scaled(figure) => (0.0, figure * dtype.epsilon() * scale),
        other => (other.figure() * dtype.epsilon(), dtype.min_positive()),
    };
    let expected = array(dtype, expected);
    writeln!(out, "    assert_close(&{actual}, &{expected}, {relative:e}, {absolute:e});")
}

fn close(dtype: DType) -> String {
    let element = element(dtype);
    format!(
        "fn assert_close(actual: &[{element}], expected: &[{element}], relative: f64, absolute: f64) {{
    assert_eq!(actual.len(), expected.len());
    for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {{
        let (actual, expected) = (f64::from(*actual), f64::from(*expected));
        let same = actual == expected || (actual.is_nan() && expected.is_nan());
        let near = (actual - expected).abs() <= relative * expected.abs() + absolute;
        assert!(same || near, \"element {{index}}: expected {{expected:e}}, got {{actual:e}}\");
    }}
}}
"
    )
}

fn largest(values: &[f64]) -> f64 {
    values.iter().map(|value| value.abs()).filter(|value| value.is_finite()).fold(0.0, f64::max)
}

const fn element(dtype: DType) -> &'static str {
    match dtype {
        DType::Float64 => "f64",
        DType::Float32 => "f32",
        DType::Bfloat16 => "half::bf16",
        DType::Float16 => "half::f16",
    }
}

/// A Rust array; of halves from their exact float32 values.
fn array(dtype: DType, values: &[f64]) -> String {
    let element = element(dtype);
    let literal = |value: &f64| -> String {
        #[expect(clippy::cast_possible_truncation, reason = "exact: the types embed in float32")]
        let single = *value as f32;
        match dtype {
            DType::Float64 => special(*value, "f64", format!("{value:?}")),
            DType::Float32 => special(*value, "f32", format!("{single:?}")),
            _ => special(*value, "f32", format!("{single:?}")),
        }
    };
    let values: Vec<String> = values.iter().map(literal).collect();
    let suffix = match dtype {
        DType::Float64 | DType::Float32 => element,
        _ => "f32",
    };
    let count = values.len();
    let list = format!("[{}] as [{suffix}; {count}]", values.join(", "));
    match dtype {
        DType::Float64 | DType::Float32 if count == 0 => format!("[0.0 as {suffix}; 0]"),
        DType::Float64 | DType::Float32 => {
            let mut typed = values;
            typed[0] = suffixed(&typed[0], suffix);
            format!("[{}]", typed.join(", "))
        }
        _ => format!("({list}).map({element}::from_f32)"),
    }
}

fn suffixed(literal: &str, suffix: &str) -> String {
    if literal.contains("::") { literal.to_owned() } else { format!("{literal}_{suffix}") }
}

fn special(value: f64, element: &str, finite: String) -> String {
    if value.is_nan() {
        format!("{element}::NAN")
    } else if value.is_infinite() {
        let name = if value > 0.0 { "INFINITY" } else { "NEG_INFINITY" };
        format!("{element}::{name}")
    } else {
        finite
    }
}

fn float(value: f64) -> String {
    special(value, "f64", format!("{value:?}"))
}

fn identifier(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let name: String = name.chars().map(plain).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("case_{name}") } else { name }
}
