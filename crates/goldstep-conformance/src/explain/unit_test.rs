//! A failing run as a Rust test that stands alone.

use std::fmt::{self, Write as _};

use goldstep_core::{Constraint, DType};
use serde_json::{Map, Value};

use crate::agreement::{Allowance, Circumstances, Mode, Quantity, Role, allowance};
use crate::arguments::is_default;
use crate::golden::{Case, Expected, Tensor};
use crate::implementation::GradientValues;
use crate::judge::Scales;

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
    let family = case.family.as_deref().unwrap_or("case");
    let name = match case.id.strip_prefix(family) {
        Some(_) => identifier(&case.id),
        None => identifier(&format!("{family}_{}", case.id)),
    };
    // A name may hold anything, an end of the line too.
    writeln!(
        out,
        "//! What tf.keras gave in {}/{}.",
        family.escape_debug(),
        case.id.escape_debug()
    )?;
    writeln!(out, "//!\n//! A file for `tests/` of a crate that needs {}.\n", needs(case, target))?;
    writeln!(out, "use goldstep_core::{{{}}};", imports(case).join(", "))?;
    writeln!(out, "use {}::{};\n", target.module, target.optimizer)?;
    match &case.expectation.error {
        None => writeln!(out, "#[test]\nfn {name}() -> Result<(), Error> {{")?,
        Some(error) => {
            writeln!(out, "#[test]\nfn {name}() {{")?;
            writeln!(out, "    let refusal = run().err().map(|error| error.keras_type());")?;
            writeln!(out, "    assert_eq!(refusal, Some({:?}));\n}}\n", error.kind)?;
            writeln!(out, "fn run() -> Result<(), Error> {{")?;
        }
    }
    write_arguments(out, &case.arguments)?;
    write_parameters(out, case)?;
    let mutable = if case.steps.is_empty() { "" } else { "mut " };
    let (optimizer, element) = (&target.optimizer, element(case.dtype));
    writeln!(out, "    let {mutable}optimizer =")?;
    writeln!(out, "        {optimizer}::<{element}>::build(&arguments, &parameters)?;")?;
    for (index, variable) in case.variables.iter().enumerate() {
        let values = array(case.dtype, &variable.initial);
        writeln!(out, "    // {}", variable.name.escape_debug())?;
        writeln!(out, "    let {mutable}x{index} = {values};")?;
    }
    write_steps(out, case)?;
    writeln!(out, "    Ok(())\n}}")?;
    if compares(case, |_| true) {
        out.push_str(CLOSE);
    }
    if compares(case, |expected| expected.r.iter().any(Option::is_some)) {
        out.push_str(&factors(case.dtype));
    }
    if compares(case, |expected| expected.ema.iter().any(Option::is_some)) {
        out.push_str(&average(case.dtype));
    }
    Ok(())
}

/// Whether a step is compared for which that holds.
fn compares(case: &Case, what: impl Fn(&Expected) -> bool) -> bool {
    case.expectation.steps.iter().flatten().any(what)
}

/// The crates that the text uses.
fn needs(case: &Case, target: &Target) -> String {
    let mut crates = vec!["goldstep-core".to_owned(), target.module.replace('_', "-")];
    if matches!(case.dtype, DType::Bfloat16 | DType::Float16) {
        crates.push("half".to_owned());
    }
    let rates = case.steps.iter().filter_map(|step| step.learning_rate.as_ref());
    if as_config(&case.arguments) || rates.into_iter().any(|rate| !rate.is_number()) {
        crates.push("serde_json".to_owned());
    }
    crates.join(", ")
}

fn imports(case: &Case) -> Vec<&'static str> {
    let mut imports =
        vec!["AdafactorArguments", "Error", "HostOptimizer", "Parameter", "ParameterList"];
    let mut add = |name, used: bool| imports.extend(used.then_some(name));
    let gradients = || case.steps.iter().flat_map(|step| &step.gradients);
    add("Gradient", gradients().any(Option::is_some));
    add("Constraint", case.variables.iter().any(|one| one.constraint.is_some()));
    add("LearningRate", case.steps.iter().any(|step| step.learning_rate.is_some()));
    let factored = compares(case, |expected| expected.r.iter().any(Option::is_some));
    let averaged = compares(case, |expected| expected.ema.iter().any(Option::is_some));
    imports.extend(factored.then_some("SecondMoment"));
    imports.extend((factored || averaged).then_some("VariableState"));
    imports.sort_unstable();
    imports
}

/// Whether the builder cannot say the arguments: schedules, and what it has no type for.
fn as_config(arguments: &Map<String, Value>) -> bool {
    let fits = |(name, value): (&String, &Value)| match value {
        Value::Null | Value::Bool(_) => true,
        Value::Number(number) => name != "ema_overwrite_frequency" || number.is_u64(),
        _ => false,
    };
    !arguments.iter().filter(|(name, value)| !is_default(name, value)).all(fits)
}

fn write_arguments(out: &mut String, arguments: &Map<String, Value>) -> fmt::Result {
    let set = arguments.iter().filter(|(name, value)| !is_default(name, value));
    if as_config(arguments) {
        let object: Map<String, Value> =
            set.map(|(name, value)| (name.clone(), value.clone())).collect();
        writeln!(out, "    let config = serde_json::json!({});", Value::Object(object))?;
        writeln!(out, "    let config = config.as_object().expect(\"an object\");")?;
        return writeln!(
            out,
            "    let arguments = AdafactorArguments::from_keras_config(config)?;"
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
    writeln!(out, "        .build()?;")
}

fn write_parameters(out: &mut String, case: &Case) -> fmt::Result {
    let excluded = !case.exclude_from_weight_decay.is_empty();
    let mutable = if excluded { "mut " } else { "" };
    writeln!(out, "    let {mutable}parameters = ParameterList::new(vec![")?;
    for variable in &case.variables {
        write!(out, "        Parameter::new({:?}, &{:?})?", variable.name, variable.shape)?;
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
    writeln!(out, "    ])?;")?;
    if excluded {
        let patterns = &case.exclude_from_weight_decay;
        writeln!(out, "    parameters.exclude_from_weight_decay(&{patterns:?})?;")?;
    }
    Ok(())
}

fn write_steps(out: &mut String, case: &Case) -> fmt::Result {
    let trial = case.trial("");
    let mut scales = Scales::new(&trial);
    let names: Vec<String> =
        (0..case.variables.len()).map(|index| format!("&mut x{index}")).collect();
    let names = names.join(", ");
    for (index, step) in case.steps.iter().enumerate() {
        writeln!(out, "\n    // Step {}", index + 1)?;
        if let Some(rate) = &step.learning_rate {
            write_rate(out, rate)?;
        }
        let expected = case.expectation.steps[index].as_ref();
        let report = if expected.is_some() { "let report = " } else { "" };
        writeln!(out, "    {report}optimizer.step(\n        &mut [{names}],\n        &[")?;
        for gradient in &step.gradients {
            write_gradient(out, case.dtype, gradient.as_ref())?;
        }
        writeln!(out, "        ],\n    )?;")?;
        let Some(expected) = expected else { continue };
        writeln!(out, "    assert_eq!(report.iterations, {});", expected.iterations)?;
        let circumstances = Circumstances {
            mode: Mode::Free,
            role: Role::Other,
            step: index as u64 + 1,
            schedule: false,
        };
        // A number is exact; the allowance of a schedule holds for both.
        let allowed =
            allowance(Quantity::LearningRate, Circumstances { schedule: true, ..circumstances });
        let relative = allowed.figure() * DType::Float32.epsilon();
        let rate = float(expected.learning_rate);
        writeln!(out, "    let rate = [f64::from(report.learning_rate)];")?;
        writeln!(out, "    assert_close(\"learning rate\", &rate, &[{rate}], {relative:e}, 0.0);")?;
        if expected.r.iter().chain(&expected.ema).any(Option::is_some) {
            writeln!(out, "    let state = optimizer.state();")?;
        }
        scales.take_up(&trial, expected);
        for (at, values) in expected.variables.iter().enumerate() {
            let ema = expected.ema[at].as_ref();
            let mut one = |quantity: Quantity, actual: &str, expected: &Tensor| {
                let name = format!("{} of {}", quantity.name(), case.variables[at].name);
                let allowed = allowance(quantity, circumstances);
                compare(out, case.dtype, (&name, actual), expected, allowed, scales.of(at))
            };
            if let (Some(r), Some(c)) = (&expected.r[at], &expected.c[at]) {
                one(Quantity::R, &format!("factors(&state.variables[{at}]).0"), r)?;
                one(Quantity::C, &format!("factors(&state.variables[{at}]).1"), c)?;
            }
            if let Some(v) = &expected.v[at] {
                one(Quantity::V, &format!("optimizer.second_moment({at})"), v)?;
            }
            one(Quantity::Variable, &format!("x{at}"), values)?;
            if let Some(ema) = ema {
                one(Quantity::Ema, &format!("average(&state.variables[{at}])"), ema)?;
            }
        }
    }
    if let Some(finalized) = &case.expectation.finalized {
        writeln!(out, "\n    optimizer.finalize_variable_values(&mut [{names}])?;")?;
        for (at, values) in finalized.iter().enumerate() {
            let allowed = Allowance::Scaled(4.0);
            let name = format!("finalized {}", case.variables[at].name);
            compare(out, case.dtype, (&name, &format!("x{at}")), values, allowed, scales.of(at))?;
        }
    }
    Ok(())
}

fn write_gradient(
    out: &mut String,
    dtype: DType,
    gradient: Option<&GradientValues>,
) -> fmt::Result {
    match gradient {
        None => writeln!(out, "            None,"),
        Some(GradientValues::Dense(values)) => {
            writeln!(out, "            Some(Gradient::Dense(&{})),", array(dtype, values))
        }
        Some(GradientValues::Sparse { indices, values }) => {
            let values = array(dtype, values);
            let rows = format!("indices: &{indices:?}, values: &{values}");
            writeln!(out, "            Some(Gradient::Sparse {{ {rows} }}),")
        }
    }
}

fn write_rate(out: &mut String, rate: &Value) -> fmt::Result {
    match rate.as_f64() {
        Some(rate) => {
            writeln!(out, "    optimizer.set_learning_rate(LearningRate::from({}))?;", float(rate))
        }
        None => {
            writeln!(out, "    let rate = serde_json::json!({rate});")?;
            writeln!(out, "    let rate = LearningRate::from_keras_config(&rate)?;")?;
            writeln!(out, "    optimizer.set_learning_rate(rate)?;")
        }
    }
}

/// One comparison: absolute in eps of a scale, or relative in eps of the expected magnitude.
fn compare(
    out: &mut String,
    dtype: DType,
    (name, actual): (&str, &str),
    expected: &Tensor,
    allowed: Allowance,
    scale: f64,
) -> fmt::Result {
    let (relative, absolute) = match allowed {
        Allowance::Scaled(figure) => (0.0, figure * dtype.epsilon() * scale),
        other => (other.figure() * dtype.epsilon(), dtype.min_positive()),
    };
    let expected = array(dtype, expected);
    writeln!(out, "    assert_close({name:?}, &{actual}, &{expected}, {relative:e}, {absolute:e});")
}

const CLOSE: &str = r#"
fn assert_close<T: Copy + Into<f64>>(
    what: &str,
    actual: &[T],
    expected: &[T],
    relative: f64,
    absolute: f64,
) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        let (actual, expected): (f64, f64) = ((*actual).into(), (*expected).into());
        let same = actual.to_bits() == expected.to_bits() || actual.is_nan() && expected.is_nan();
        let near = (actual - expected).abs() <= relative * expected.abs() + absolute;
        assert!(same || near, "{what}[{index}]: expected {expected:e}, got {actual:e}");
    }
}
"#;

fn factors(dtype: DType) -> String {
    let element = element(dtype);
    format!(
        "
fn factors(state: &VariableState) -> (Vec<{element}>, Vec<{element}>) {{
    match &state.second_moment {{
        SecondMoment::Factored {{ row_factor, column_factor }} => {{
            (row_factor.to_vec(), column_factor.to_vec())
        }}
        SecondMoment::Full(values) => (values.to_vec(), Vec::new()),
    }}
}}
"
    )
}

fn average(dtype: DType) -> String {
    let element = element(dtype);
    format!(
        "
fn average(state: &VariableState) -> Vec<{element}> {{
    state.average.as_ref().map(|average| average.to_vec()).unwrap_or_default()
}}
"
    )
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn names_do_not_leave_their_comments() {
        let json = r#"{"format": "goldstep-case/1", "id": "a\nfn", "dtype": "float32", "steps": [],
            "arguments": {}, "variables": [{"name": "w\nfn", "shape": [1], "initial": [1]}]}"#;
        let case = Case::from_json(Path::new("a.json"), json).unwrap();
        let target = Target { module: "own".to_owned(), optimizer: "Own".to_owned() };
        let text = unit_test(&case, &target);
        assert!(text.starts_with("//! What tf.keras gave in case/a\\nfn.\n"), "{text}");
        assert!(text.contains("    // w\\nfn\n"), "{text}");
    }
}
