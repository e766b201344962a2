//! The same for programs.

use goldstep_core::DType;
use serde_json::{Map, Value, json};

use super::numbers::bits;
use super::standing::{Standing, skipped};
use crate::agreement::Mode;
use crate::explain::Cause;
use crate::free::FreeRuns;
use crate::golden::Golden;
use crate::judge::Finding;
use crate::observed::{Observations, Worst};
use crate::run::{FamilyReport, Report};

/// Everything that is known of a verification, as one object.
#[must_use]
pub fn json(golden: &Golden, reports: &[(&Report, &[Cause])]) -> Value {
    json!({
        "format": "goldstep-report/1",
        "golden": {
            "directory": golden.directory().display().to_string(),
            "generated": golden.generated(),
            "families": golden.families().iter().map(|family| json!({
                "id": family.id,
                "runs": family.len(),
                "refusals": family.errors(),
                "trajectories": family.trajectories(),
            })).collect::<Vec<_>>(),
        },
        "backends": reports
            .iter()
            .map(|(report, causes)| backend(golden, report, causes))
            .collect::<Vec<_>>(),
    })
}

fn backend(golden: &Golden, report: &Report, causes: &[Cause]) -> Value {
    json!({
        "name": report.name,
        "version": report.description.version,
        "language": report.description.language,
        "source": report.description.source,
        "agrees": report.agrees(),
        "broken": report.is_broken(),
        "judged": report.judged(),
        "skipped": report.families.iter().map(skipped).sum::<usize>(),
        "incidents": report.incidents,
        "free_seed": match report.free_runs {
            FreeRuns::All => None,
            FreeRuns::Sample { seed, .. } => Some(seed),
        },
        "elapsed_s": report.elapsed.as_secs_f64(),
        "families": report.families.iter().map(|one| family(golden, one)).collect::<Vec<_>>(),
        "causes": causes.iter().map(|one| cause(one, report)).collect::<Vec<_>>(),
        "stale": report.stale.iter().map(|one| json!({
            "family": one.family,
            "case": one.case,
            "quantity": one.quantity.name(),
            "reason": one.reason,
        })).collect::<Vec<_>>(),
    })
}

fn family(golden: &Golden, report: &FamilyReport) -> Value {
    let runs = &golden.families()[report.family];
    json!({
        "id": report.id,
        "standing": Standing::of(Some(report)).word(),
        "chosen": report.chosen,
        "agree": report.agree.len(),
        "refusals": report.refusals,
        "known_differences": report.known_differences,
        "skipped": report.skipped,
        "differ": report.differ.len(),
        "broken": report.broken.len(),
        "failures": report.broken.iter().map(|(position, failure)| json!({
            "run": runs.trial(*position).name(),
            "kind": failure.kind(),
            "message": failure.to_string(),
        })).collect::<Vec<_>>(),
        "forced_only": report.forced_only,
        "given_up": report.given_up,
        "values": report.observations.compared(),
        "worst": observations(&report.observations),
    })
}

fn observations(observations: &Observations) -> Value {
    let modes = Mode::ALL.map(|mode| {
        let quantities = observations.iter(mode).map(|(quantity, worst)| {
            let Worst { error, allowance, position, step, .. } = worst;
            let value = json!({
                "error": number(*error),
                "allowed": number(allowance.figure()),
                "unit": allowance.unit(),
                "run": position,
                "step": step,
            });
            (quantity.name().to_owned(), value)
        });
        (mode.name().to_owned(), Value::Object(quantities.collect()))
    });
    Value::Object(modes.into_iter().collect::<Map<_, _>>())
}

fn cause(cause: &Cause, report: &Report) -> Value {
    let divergence = &cause.divergence;
    let trial = cause.case.trial("");
    let mut object = json!({
        "families": cause.parts.iter().map(|part| json!({
            "id": part.family,
            "runs": part.failing,
            "of": part.total,
            "predicate": part.predicate,
        })).collect::<Vec<_>>(),
        "case": cause.name,
        "mode": divergence.mode.name(),
        "step": divergence.step,
        "quantity": divergence.quantity().name(),
        "reproduce": cause.reproduce(&report.invocation),
        "repro": cause.repro(&report.invocation),
        "looks_like": cause.diagnosis.as_ref().map(|diagnosis| json!({
            "mistakes": diagnosis.names.iter().map(|(id, _)| id).collect::<Vec<_>>(),
            "further": diagnosis.further,
            "matched": diagnosis.matched,
            "examined": diagnosis.examined,
        })),
    });
    if let (Finding::Value(difference), Some(object)) =
        (&divergence.finding, object.as_object_mut())
    {
        let dtype = if difference.variable.is_some() { trial.dtype } else { DType::Float32 };
        let variable = difference.variable.map(|index| trial.variables[index].name.clone());
        let fields = json!({
            "variable": variable,
            "element": difference.element,
            "before": difference.before.map(number),
            "expected": number(difference.expected),
            "expected_bits": bits(dtype, difference.expected),
            "actual": number(difference.actual),
            "actual_bits": bits(dtype, difference.actual),
            "error": number(difference.error),
            "allowed": number(difference.allowance.figure()),
            "unit": difference.allowance.unit(),
        });
        object.extend(fields.as_object().cloned().unwrap_or_default());
    }
    object
}

/// A number, or the word that the trace format has for what is not finite.
fn number(value: f64) -> Value {
    if value.is_nan() {
        json!("NaN")
    } else if value.is_infinite() {
        json!(if value > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        json!(value)
    }
}
